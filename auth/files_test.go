package auth_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

// Files are replaced as certbot does: links in live/ lead to another file of archive/. A
// bad one leaves the one of before serving, and is told once with its path.
func TestCertificatesOfFilesAreReplaced(t *testing.T) {
	testnet.CheckLeaks(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	lead := func(link, to string) string {
		path := filepath.Join(dir, link)
		require.NoError(t, os.Symlink(to, path+".new"))
		require.NoError(t, os.Rename(path+".new", path))
		return path
	}
	cert, key := certificate(t, time.Now().Add(time.Hour), "one", "shop.example")
	file := auth.CertificateFile{Cert: lead("fullchain.pem", write("cert1.pem", cert)), Key: lead("privkey.pem", write("key1.pem", key))}
	log := &testbin.Buffer{}
	files, err := auth.NewCertificateFiles(slog.New(slog.NewTextHandler(log, nil)), file)
	require.NoError(t, err)

	// They come before what the network has, for the names that they have.
	imported, importedKey := certificate(t, time.Now().Add(time.Hour), "imported", "shop.example", "other.example")
	f := make(feed)
	k := auth.NewKeyring(f, testnet.Logger(t), auth.WithFiles(files))
	defer k.Close()
	defer close(f)
	f <- auth.CertificateChange{Set: []auth.Certificate{{ID: "i", Hosts: []string{"shop.example", "other.example"}, Cert: imported, Key: importedKey}}}
	testnet.Eventually(t, func() bool { return serves(k, "shop.example") == "one" }, "the file's")
	testnet.Eventually(t, func() bool { return serves(k, "other.example") == "imported" }, "the network's")

	// The chain is replaced, its key is not yet.
	cert, key = certificate(t, time.Now().Add(time.Hour), "two", "shop.example")
	lead("fullchain.pem", write("cert2.pem", cert))
	testnet.Eventually(t, func() bool { return strings.Count(log.String(), file.Cert) == 1 }, "it says which file is bad")
	require.Equal(t, "one", serves(k, "shop.example"))
	lead("privkey.pem", write("key2.pem", key))
	testnet.Eventually(t, func() bool { return serves(k, "shop.example") == "two" }, "replaced")

	// Written over, and taken away.
	cert, key = certificate(t, time.Now().Add(time.Hour), "three", "shop.example")
	write("cert2.pem", cert+key)
	write("key2.pem", cert+key)
	testnet.Eventually(t, func() bool { return serves(k, "shop.example") == "three" }, "written over")
	require.NoError(t, os.Remove(file.Key))
	testnet.Eventually(t, func() bool {
		return strings.Count(log.String(), file.Key) >= 1 && strings.Count(log.String(), "no such file") == 1
	}, "it says which is missing")
	require.Equal(t, "three", serves(k, "shop.example"))

	for _, bad := range []auth.CertificateFile{
		{Cert: filepath.Join(dir, "none.pem"), Key: filepath.Join(dir, "key1.pem")},
		{Cert: filepath.Join(dir, "cert1.pem"), Key: filepath.Join(dir, "none.pem")},
		{Cert: filepath.Join(dir, "key1.pem"), Key: filepath.Join(dir, "key1.pem")},
		{Cert: filepath.Join(dir, "cert1.pem"), Key: filepath.Join(dir, "key2.pem")},
		{Cert: dir, Key: dir},
	} {
		_, err := auth.NewCertificateFiles(slog.Default(), bad)
		require.ErrorIs(t, err, taubyte.ErrInvalid)
		require.ErrorContains(t, err, dir)
	}
}
