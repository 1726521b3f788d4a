package key

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The kinds of armored blocks that a mirror holds.
const (
	publicBlock    = "PGP PUBLIC KEY BLOCK"
	signatureBlock = "PGP SIGNATURE"
)

var armorHeader = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*: [^\x00-\x1f\x7f]*$`)

func notBase64(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '+' && r != '/'
}

// unarmor decodes a text that is exactly one armored block of a kind, in the form that gpg writes. gpg itself
// accepts more: it skips text around a block, and reads several blocks one after the other. Text that two readers
// may understand differently is refused.
func unarmor(text []byte, kind string) ([]byte, error) {
	lines, err := lines(text)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte("-----BEGIN ")); n > 1 {
		return nil, fmt.Errorf("it holds %d armored blocks, want one", n)
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	begin, end := "-----BEGIN "+kind+"-----", "-----END "+kind+"-----"
	if len(lines) < 4 || lines[0] != begin || lines[len(lines)-1] != end {
		return nil, fmt.Errorf("want one block from %s to %s and nothing around it", begin, end)
	}
	lines = lines[1 : len(lines)-1]
	for lines[0] != "" {
		if !armorHeader.MatchString(lines[0]) || len(lines) == 1 {
			return nil, fmt.Errorf("armor: %.40q is no header", lines[0])
		}
		lines = lines[1:]
	}
	return decodeArmor(lines[1:])
}

// decodeArmor decodes the lines behind the headers: base64 and a checksum.
func decodeArmor(lines []string) ([]byte, error) {
	var sum string
	if n := len(lines); n > 0 && len(lines[n-1]) == 5 && lines[n-1][0] == '=' {
		sum, lines = lines[n-1][1:], lines[:n-1]
	}
	for i, line := range lines {
		digits := line
		if i == len(lines)-1 {
			digits = strings.TrimRight(line, "=")
		}
		if digits == "" || strings.IndexFunc(digits, notBase64) >= 0 {
			return nil, fmt.Errorf("armor: %.40q is no base64", line)
		}
	}
	joined := strings.Join(lines, "")
	body, err := base64.StdEncoding.DecodeString(joined)
	if err != nil {
		return nil, fmt.Errorf("armor: %w", err)
	}
	if sum == "" {
		if !strings.HasSuffix(joined, "=") {
			return nil, errors.New("armor: the checksum is missing, and without it gpg takes the end for data: write it again with gpg")
		}
		return body, nil
	}
	if sum != Checksum(body) {
		return nil, errors.New("armor: the checksum does not match")
	}
	return body, nil
}

// Checksum returns the checksum that stands behind the = in the last line of armor.
func Checksum(body []byte) string {
	sum := crc24(body)
	return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// crcTable holds the value that each byte adds to a checksum.
var crcTable = func() (t [256]uint32) {
	for i := range t {
		t[i] = uint32(i) << 16
		for range 8 {
			if t[i] <<= 1; t[i]&0x1000000 != 0 {
				t[i] ^= 0x1864cfb
			}
		}
	}
	return t
}()

// crc24 returns the checksum of RFC 4880, section 6.1.
func crc24(data []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, b := range data {
		crc = crc<<8 ^ crcTable[byte(crc>>16)^b]
	}
	return crc & 0xffffff
}

// lines splits text at its line ends, LF or CRLF. A lone CR is an error: Spack takes it for a line end, and gpg
// does not.
func lines(text []byte) ([]string, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if bytes.IndexByte(text, '\r') >= 0 {
		return nil, errors.New("there is a carriage return that ends no line")
	}
	return strings.Split(string(text), "\n"), nil
}
