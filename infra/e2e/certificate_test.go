package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

// TestDoctorExaminesAGivenCertificate: ACM does not renew a certificate that was imported,
// so the doctor says in time how to replace it, and that works.
func TestDoctorExaminesAGivenCertificate(t *testing.T) {
	needMachine(t)
	ctx := context.Background()
	cfg := config(t, machine.moto)
	certificate, key := selfSigned(t, domain, 10*24*time.Hour)
	imported, err := acm.NewFromConfig(cfg).ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certificate, PrivateKey: key})
	if err != nil {
		t.Fatal(err)
	}
	arn := aws.ToString(imported.CertificateArn)
	stack, _ := apply(t, cfg, synthesized(t, "--account", account, "--domain", domain, "--certificate-arn", arn, "--alarms=false",
		"--indexer-queue", "--maintain-environment", "none"))
	p := newPatientOf(t, cfg, stack)
	// The last role of this stack is the indexer's, which GitHub's provider has nothing to do with.
	finding(t, p, "oidc provider: "+providerArn+" accepts")

	f := finding(t, p, "the certificate for "+domain+" ends on")
	if f.Severity != doctor.Warn || !strings.Contains(f.Fix, arn) {
		t.Errorf("%+v", f)
	}
	t.Chdir(t.TempDir()) // where the files of the fix are
	certificate, key = selfSigned(t, domain, 365*24*time.Hour)
	for name, content := range map[string][]byte{"certificate.pem": certificate, "key.pem": key, "chain.pem": certificate} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.carryOut(t, f.Fix)
	finding(t, p, "certificate: issued for "+domain)

	if _, err := acm.NewFromConfig(cfg).DeleteCertificate(ctx, &acm.DeleteCertificateInput{CertificateArn: &arn}); err != nil {
		t.Fatal(err)
	}
	if f := finding(t, p, arn+" does not exist"); f.Severity != doctor.Fail || !strings.Contains(f.Fix, "--certificate-arn") {
		t.Errorf("%+v", f)
	}
}

// finding is the one whose text contains words.
func finding(t *testing.T, p *patient, words string) doctor.Finding {
	t.Helper()
	all := p.doctor.Examine(context.Background())
	for _, f := range all {
		if strings.Contains(f.Check+": "+f.Detail, words) {
			return f
		}
	}
	t.Fatalf("nothing says %q:\n%s", words, text(all))
	return doctor.Finding{}
}

// selfSigned makes a certificate for a host and its key, as PEM.
func selfSigned(t *testing.T, host string, valid time.Duration) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	form := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(valid)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
