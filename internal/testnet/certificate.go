package testnet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// InlineCertificate makes a certificate for a host, and returns it and its private key as
// they stand in the YAML of a domain, below "cert: |" and "key: |".
func InlineCertificate(t testing.TB, host string) (cert, key string) {
	t.Helper()
	sk, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &sk.PublicKey, sk)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(sk)
	require.NoError(t, err)
	text := func(kind string, der []byte) string {
		return "\n    " + strings.ReplaceAll(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))), "\n", "\n    ") + "\n"
	}
	return text("CERTIFICATE", der), text("PRIVATE KEY", raw)
}
