// Package gitcmd runs git with nothing of the machine's or the user's configuration.
package gitcmd

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"
)

// New prepares git on a repository, with none of the caller's configuration and
// nothing of its environment that may be secret. It runs in the repository's folder, and
// all that it starts ends with ctx.
func New(ctx context.Context, repository string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PATH", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LANG":
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env,
		"GIT_DIR="+repository, "HOME="+repository,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
	)
	cmd.Dir = repository
	cmd.WaitDelay = 5 * time.Second
	endGroup(cmd)
	return cmd
}
