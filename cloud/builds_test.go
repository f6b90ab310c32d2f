package cloud_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey/container"
)

func TestContainersOfTheConfigurationFile(t *testing.T) {
	testnet.CheckLeaks(t)
	for text, says := range map[string]string{
		"builds: docker":        "there are confined, container and plain",
		"containers: {cpus: 2}": "containers is for builds: container",
		"builds: container\ncontainers: {privileged: 1}": "field privileged not found",
		"builds: container\ncontainers: {cpus: many}":    "cannot unmarshal",
	} {
		_, err := options(t, text)
		require.ErrorIs(t, err, taubyte.ErrInvalid, text)
		require.ErrorContains(t, err, says, text)
	}
	_, err := options(t, "builds: container\ncontainers: {image: alpine, pull: never, registries: [ghcr.io/acme], cpus: 1.5, network: builds}")
	require.NoError(t, err)

	open := func(c container.Config) error {
		n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), cloud.WithServices(taubyte.RoleMonkey, taubyte.RoleSeer),
			cloud.WithContainerBuilds(c), cloud.WithLogger(testnet.Logger(t)))
		if err == nil {
			require.NoError(t, n.Close())
		}
		return err
	}
	err = open(container.Config{Engine: "unix:///nowhere/docker.sock"})
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
	require.ErrorContains(t, err, "install Docker")
	require.ErrorIs(t, open(container.Config{Pull: "sometimes"}), taubyte.ErrInvalid)
}
