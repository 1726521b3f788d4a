package sign

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// maxKey is the maximum size of a private key, in bytes. A gpg key with some subkeys has 10 kB.
const maxKey = 1 << 20

const privateBlock = "PGP PRIVATE KEY BLOCK"

var (
	beginBlock = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]+)-----`)
	armorField = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*: `)
)

// decode returns the packets of a private key: exported with or without --armor, or base64 of either. It undoes
// changes that the settings of a CI system make to a key: indentation, quotes, \n for a line end.
func decode(content []byte) ([]byte, error) {
	if len(content) > maxKey {
		return nil, fmt.Errorf("it has more than %d bytes, which no private key has", maxKey)
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if len(content) > 0 && content[0]&0x80 != 0 { // the first byte of any packet
		return slices.Clone(content), nil
	}
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n", `\r\n`, "\n", `\n`, "\n").Replace(string(content))
	text = strings.Trim(text, " \t\n\"'")
	if text == "" {
		return nil, errors.New("it is empty")
	}
	if beginBlock.MatchString(text) {
		return dearmor(text)
	}
	packed := strings.Join(strings.Fields(text), "")
	decoded, err := base64.StdEncoding.DecodeString(packed)
	if err != nil {
		decoded, err = base64.RawStdEncoding.DecodeString(packed)
	}
	if err != nil || len(decoded) == 0 {
		return nil, errors.New("it is neither armored nor base64 nor binary: want what gpg --armor --export-secret-keys FINGERPRINT writes")
	}
	defer clear(decoded)
	if decoded[0]&0x80 != 0 {
		return slices.Clone(decoded), nil
	}
	if beginBlock.Match(decoded) {
		return dearmor(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(decoded)))
	}
	return nil, errors.New("it is base64, but not of a private key")
}

// dearmor decodes the one private key in a text.
func dearmor(text string) ([]byte, error) {
	kinds := make(map[string]int)
	for _, m := range beginBlock.FindAllStringSubmatch(text, -1) {
		kinds[m[1]]++
	}
	switch {
	case kinds[privateBlock] > 0:
	case kinds["PGP PUBLIC KEY BLOCK"] > 0:
		return nil, ErrPublic
	default:
		for kind := range kinds {
			return nil, fmt.Errorf("it is a %s, not an OpenPGP private key: want what gpg --armor --export-secret-keys FINGERPRINT writes", kind)
		}
	}
	var one []byte
	for _, block := range strings.Split(text, "-----BEGIN "+privateBlock+"-----")[1:] {
		packets, err := dearmorBlock(block)
		if err != nil {
			return nil, err
		}
		if one != nil && !bytes.Equal(one, packets) {
			return nil, errors.New("it holds several armored blocks: want one key (gpg --armor --export-secret-keys FINGERPRINT)")
		}
		one = packets
	}
	return one, nil
}

// dearmorBlock decodes the text that follows the first line of a block.
func dearmorBlock(block string) ([]byte, error) {
	body, _, complete := strings.Cut(block, "-----END "+privateBlock+"-----")
	if !complete {
		return nil, errors.New("it is cut off: its last line, -----END " + privateBlock + "-----, is missing")
	}
	first, rest, found := strings.Cut(body, "\n")
	if !found || strings.TrimSpace(first) != "" {
		return nil, errors.New("its line ends are lost: set the secret from the file (gh secret set NAME < key.asc), or as base64 (base64 < key.asc)")
	}
	lines := strings.Split(rest, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	for len(lines) > 0 && (lines[0] == "" || armorField.MatchString(lines[0])) {
		lines = lines[1:]
	}
	var sum string
	for n := len(lines); n > 0 && sum == ""; n = len(lines) {
		if last := lines[n-1]; len(last) == 5 && last[0] == '=' {
			sum = last[1:]
		} else if last != "" {
			break
		}
		lines = lines[:n-1]
	}
	packets, err := base64.StdEncoding.DecodeString(strings.Join(lines, ""))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if sum != "" && sum != key.Checksum(packets) {
		return nil, errors.New("it is damaged: its checksum does not match")
	}
	return packets, nil
}
