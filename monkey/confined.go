package monkey

import "context"

// Confined is the Environment that runs a stranger's commands on Linux, without a container
// engine and without root. It is made by NewConfined and needs bubblewrap (bwrap).
//
// A command has namespaces of its own for processes, mounts, network, IPC and host name.
// Its root is read-only and holds the machine's programs (/usr, /bin, /lib and the like, and
// what ReadOnly adds), the session's mounts, a /proc of its own processes and a minimal
// /dev; no home, no other part of /etc than what programs need to run, and nothing of the
// node: no key, no store, no variable, no port, no socket. It may not gain privileges or make
// further namespaces, and lacks the system calls to try (seccomp). All its processes end with
// it, with ctx, with Close, and with the node's process, daemons of any session included.
//
// Where the node's process is root, commands run under a user of their own for each Owner,
// who gets the mounts that may be written; that needs setpriv (util-linux). Else they run as
// the node's user in a user namespace, which the system has to allow.
//
// # Limits
//
// CPU, File and Processes are the kernel's (rlimits); Memory is so for one process. Memory
// and Disk of all together are watched from outside several times a second: a command can
// be above them for that long. Disk is also taken to be half of what is free, so that no
// build fills a disk. No cgroup is needed or used.
//
// # Network
//
// Without Spec.Network there is none, not even the machine's loopback. With it the command
// has the machine's network as the node has, ports on loopback included.
type Confined struct {
	// Path is the commands' PATH. The default is that of the node's process.
	Path string
	// ReadOnly are further folders of the machine that commands may read and run
	// programs from, such as a toolchain below /opt.
	ReadOnly []string

	bwrap   string
	setpriv string // where the node is root
}

// systemFolders are the machine's programs. What is a link there is one for commands.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"}

// NewConfined returns a Confined once a command has been confined on this machine. Else the
// error, a *MissingError, says what to install or to allow.
func NewConfined(ctx context.Context) (*Confined, error) { return newConfined(ctx) }
