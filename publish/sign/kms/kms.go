package kms

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/unreached"
)

// ErrKey: the key cannot sign because it does not exist, is disabled, is about to be deleted, or is not meant to
// sign.
var ErrKey = errors.New("the key cannot sign")

// A Key is a key of a KMS. It is a sign.Digester.
type Key struct {
	name   Name
	config Config

	// mu is held while the only client is made.
	mu  sync.Mutex
	api *kms.Client
}

// Config returns the configuration of AWS, with credentials. It is called when the first request is made.
type Config func(context.Context) (aws.Config, error)

// Open returns a key. It makes no request.
func Open(name Name, c Config) *Key { return &Key{name: name, config: c} }

// client returns the client for the key's region.
func (k *Key) client(ctx context.Context) (*kms.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.api != nil {
		return k.api, nil
	}
	cfg, err := k.config(ctx)
	if err != nil {
		return nil, err
	}
	if k.name.Region != "" {
		cfg.Region = k.name.Region
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("%s: %w", k.name, ErrNoRegion)
	}
	k.api = kms.NewFromConfig(cfg, func(o *kms.Options) { o.Credentials = credentials.Tagged(o.Credentials) })
	return k.api, nil
}

// algorithms are the signing algorithms of KMS that OpenPGP supports.
var algorithms = map[sign.Algorithm]map[crypto.Hash]types.SigningAlgorithmSpec{
	sign.RSA: {
		crypto.SHA512: types.SigningAlgorithmSpecRsassaPkcs1V15Sha512,
	},
	sign.ECDSA: {
		crypto.SHA256: types.SigningAlgorithmSpecEcdsaSha256,
		crypto.SHA384: types.SigningAlgorithmSpecEcdsaSha384,
		crypto.SHA512: types.SigningAlgorithmSpecEcdsaSha512,
	},
}

// SignDigest implements sign.Digester. It needs the permission kms:Sign.
func (k *Key) SignDigest(ctx context.Context, d sign.Digest) ([]byte, error) {
	api, err := k.client(ctx)
	if err != nil {
		return nil, err
	}
	out, err := api.Sign(ctx, &kms.SignInput{
		KeyId: &k.name.ID, Message: d.Sum, MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithms[d.Algorithm][d.Hash],
	})
	if err != nil {
		return nil, k.translate(ctx, "kms:Sign", err)
	}
	return out.Signature, nil
}

// Public is the public half of a key.
type Public struct {
	ARN     string
	Key     crypto.PublicKey
	Created time.Time
}

// Public returns the public half. It needs the permissions kms:DescribeKey and kms:GetPublicKey.
func (k *Key) Public(ctx context.Context) (*Public, error) {
	api, err := k.client(ctx)
	if err != nil {
		return nil, err
	}
	about, err := api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &k.name.ID})
	if err != nil {
		return nil, k.translate(ctx, "kms:DescribeKey", err)
	}
	m := about.KeyMetadata
	switch {
	case m == nil || m.CreationDate == nil:
		return nil, fmt.Errorf("%s: the service does not say when the key was made", k.name)
	case m.KeyUsage != types.KeyUsageTypeSignVerify:
		return nil, k.unfit(fmt.Sprintf("it is meant for %s, and not for SIGN_VERIFY", m.KeyUsage))
	case m.KeyState != types.KeyStateEnabled:
		return nil, k.unfit("its state is " + string(m.KeyState))
	}
	out, err := api.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &k.name.ID})
	if err != nil {
		return nil, k.translate(ctx, "kms:GetPublicKey", err)
	}
	if !slices.ContainsFunc(out.SigningAlgorithms, usable) {
		return nil, k.unfit(fmt.Sprintf("keys of %s make no signatures that gpg can check: want RSA_4096", out.KeySpec))
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		return nil, k.unfit(fmt.Sprintf("keys of %s make no signatures that gpg can check: want RSA_4096 (%v)", out.KeySpec, err))
	}
	return &Public{aws.ToString(m.Arn), public, m.CreationDate.Truncate(time.Second)}, nil
}

func usable(a types.SigningAlgorithmSpec) bool {
	for _, of := range algorithms {
		for _, known := range of {
			if a == known {
				return true
			}
		}
	}
	return false
}

func (k *Key) unfit(why string) error { return fmt.Errorf("%s: %w: %s", k.name, ErrKey, why) }

// refusals are the error codes by which KMS says that a key cannot be used.
var refusals = map[string]string{
	"NotFoundException":             "there is no such key in this region and account",
	"DisabledException":             "it is disabled",
	"KMSInvalidStateException":      "its state does not permit it",
	"InvalidKeyUsageException":      "it is not meant to sign, or not by this algorithm",
	"UnsupportedOperationException": "it is not meant to sign",
	"ValidationException":           "KMS does not accept the request",
	"InvalidArnException":           "its name is not right",
}

// translate turns an error of KMS into the errors that callers check for.
func (k *Key) translate(ctx context.Context, action string, err error) error {
	var api smithy.APIError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.As(err, &api) {
		return fmt.Errorf("%s: %w", k.name, unreached.Error(err))
	}
	switch code := api.ErrorCode(); {
	case code == "AccessDeniedException", code == "AccessDenied":
		return &mirror.DeniedError{Action: action, Name: k.name.String(), Detail: api.ErrorMessage()}
	case credentials.Refused(code):
		return fmt.Errorf("%s: %w: %s: %s", k.name, mirror.ErrCredentials, code, api.ErrorMessage())
	case refusals[code] != "":
		return k.unfit(fmt.Sprintf("%s (%s: %s)", refusals[code], code, api.ErrorMessage()))
	}
	return fmt.Errorf("%s: %w", k.name, err)
}
