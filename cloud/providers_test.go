package cloud_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
)

func TestGitProvidersOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	options := func(providers string) error {
		c, err := cloud.ReadConfig(write("taubyte.yaml", "data: data\nservices: [auth]\nproviders:\n"+providers))
		if err == nil {
			_, err = c.Options()
		}
		return err
	}
	write("token", "ghp_secret\n")
	write("empty", "\n")
	write("keys", "# of the server\nssh-ed25519 AAAA\n")
	t.Setenv("GIT_TOKEN_OF_THE_TEST", "secret")
	require.NoError(t, options(`
  github: {token-file: token}
  gitea: {url: "https://git.example.com", token-env: GIT_TOKEN_OF_THE_TEST, host-keys: keys}
  work: {type: github, url: "https://github.example.com", token-file: token}
webhooks: https://cloud.example.com/webhooks
`))
	for _, bad := range []string{
		`  github: {}`,
		`  github: {token-file: empty}`,
		`  github: {token-file: token, token-env: GIT_TOKEN_OF_THE_TEST}`,
		`  github: {token-env: NO_TOKEN_OF_THE_TEST}`,
		`  github: {token: ghp_secret}`,
		`  gitea: {token-file: token}`,
		`  other: {token-file: token}`,
	} {
		require.ErrorIs(t, options(bad), taubyte.ErrInvalid, bad)
	}
	require.ErrorIs(t, options(`  github: {token-file: none}`), os.ErrNotExist)
}
