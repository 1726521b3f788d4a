package sign

import (
	"errors"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// Reasons why a private key cannot be used, for use with errors.Is.
var (
	// ErrPublic: the file holds a public key.
	ErrPublic = errors.New("it is a public key, and signing takes the private one: gpg --armor --export-secret-keys FINGERPRINT")
	// ErrNoPassphrase: the key is protected and no passphrase was given.
	ErrNoPassphrase = errors.New("it is protected by a passphrase, and none is given")
	// ErrPassphrase: the passphrase is wrong.
	ErrPassphrase = errors.New("the passphrase is wrong")
	// ErrCard: the private key is on a smartcard, and the file only refers to it.
	ErrCard = errors.New("its private key is on a smartcard: export a key that is not, or let gpg sign where it can reach the card: gpg:FINGERPRINT")
	// ErrNoSecret: the file lacks the private part of every key that may sign.
	ErrNoSecret = errors.New("the private part of the key that signs is not in it: gpg --armor --export-secret-keys FINGERPRINT, or --export-secret-subkeys")
	// ErrExpired, ErrRevoked and ErrCannotSign are reasons why no key of the certificate can sign.
	ErrExpired    = key.ErrExpired
	ErrRevoked    = key.ErrRevoked
	ErrCannotSign = key.ErrCannotSign
)
