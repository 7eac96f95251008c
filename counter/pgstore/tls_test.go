package pgstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/pgtest"
)

// TestTLS: with sslmode=verify-full the server's certificate is checked, and
// connections that die under TLS are replaced as any others.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	c := pgtest.New(t, pgtest.Config("ssl = on"), pgtest.HBA("hostssl all counterd 127.0.0.1/32 trust"),
		pgtest.File("server.crt", cert), pgtest.File("server.key", key))
	c.Exec("CREATE ROLE counterd LOGIN; GRANT CREATE ON SCHEMA public TO counterd")
	root := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(root, []byte(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "postgres://counterd@" + c.Addr() + "/postgres?sslmode="

	s := mustOpen(t, url+"verify-full&sslrootcert="+root, testOptions(t))
	for i := range int64(20) {
		mustAdd(t, s, 1, i+1)
		c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'counterd'")
	}
	o := testOptions(t)
	o.Timeout = 3 * time.Second
	other, _ := certificate(t)
	if err := os.WriteFile(root, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "word of the certificate rather than of a try that was cut short", func() bool {
		_, err := Open(bg, url+"verify-full&sslrootcert="+root, o)
		if err == nil {
			t.Fatal("another server's certificate: no error")
		}
		return strings.Contains(err.Error(), "certificate")
	})
	if _, err := Open(bg, url+"disable", o); err == nil {
		t.Error("without TLS: no error")
	}
}

// certificate makes a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}
