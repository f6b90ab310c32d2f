package githubtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// sshServer serves git-upload-pack to who shows the deploy key of a repository.
type sshServer struct {
	addr    string
	hostKey string

	s        *Server
	config   *ssh.ServerConfig
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

func startSSH(t testing.TB, s *Server) *sshServer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	srv := &sshServer{s: s, conns: map[net.Conn]bool{}, hostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}
	srv.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, shown ssh.PublicKey) (*ssh.Permissions, error) {
		text := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(shown)))
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range s.repos {
			for _, k := range r.keys {
				if k.Key == text {
					return &ssh.Permissions{Extensions: map[string]string{"key": text}}, nil
				}
			}
		}
		return nil, fmt.Errorf("unknown key")
	}}
	srv.config.AddHostKey(signer)
	srv.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv.addr = srv.listener.Addr().String()
	srv.wg.Go(srv.accept)
	t.Cleanup(func() {
		_ = srv.listener.Close()
		srv.mu.Lock()
		for c := range srv.conns {
			_ = c.Close()
		}
		srv.mu.Unlock()
		srv.wg.Wait()
	})
	return srv
}

func (srv *sshServer) accept() {
	for {
		c, err := srv.listener.Accept()
		if err != nil {
			return
		}
		srv.mu.Lock()
		srv.conns[c] = true
		srv.mu.Unlock()
		srv.wg.Go(func() {
			srv.serve(c)
			_ = c.Close()
			srv.mu.Lock()
			delete(srv.conns, c)
			srv.mu.Unlock()
		})
	}
}

func (srv *sshServer) serve(raw net.Conn) {
	conn, channels, requests, err := ssh.NewServerConn(raw, srv.config)
	if err != nil {
		return
	}
	srv.wg.Go(func() { ssh.DiscardRequests(requests) })
	for wanted := range channels {
		if wanted.ChannelType() != "session" {
			_ = wanted.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := wanted.Accept()
		if err != nil {
			return
		}
		env := []string{}
		for r := range requests {
			switch r.Type {
			case "env":
				var kv struct{ Name, Value string }
				if ssh.Unmarshal(r.Payload, &kv) == nil && kv.Name == "GIT_PROTOCOL" {
					env = append(env, kv.Name+"="+kv.Value)
				}
				_ = r.Reply(true, nil)
			case "exec":
				var line struct{ Command string }
				_ = ssh.Unmarshal(r.Payload, &line)
				_ = r.Reply(true, nil)
				status := srv.exec(channel, line.Command, conn.Permissions.Extensions["key"], env)
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
				_ = channel.Close()
			default:
				_ = r.Reply(false, nil)
			}
		}
	}
}

func (srv *sshServer) exec(channel ssh.Channel, line, shown string, env []string) uint32 {
	command, path, _ := strings.Cut(line, " ")
	name := strings.TrimSuffix(strings.Trim(path, "'/"), ".git")
	srv.s.mu.Lock()
	repo := srv.s.named(name)
	if repo == nil {
		repo = srv.s.moved(name)
	}
	allowed := false
	if repo != nil {
		for _, k := range repo.keys {
			allowed = allowed || k.Key == shown
		}
	}
	srv.s.mu.Unlock()
	if command != "git-upload-pack" || !allowed {
		_, _ = fmt.Fprintln(channel.Stderr(), "ERROR: Repository not found.")
		return 1
	}
	cmd := exec.Command("git", "upload-pack", repo.bare)
	cmd.Env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin", "HOME="+repo.bare, "GIT_CONFIG_NOSYSTEM=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	if cmd.Start() != nil {
		return 1
	}
	srv.wg.Go(func() { // ends with the channel
		buf := make([]byte, 32<<10)
		for {
			n, err := channel.Read(buf)
			if _, werr := in.Write(buf[:n]); err != nil || werr != nil {
				_ = in.Close()
				return
			}
		}
	})
	if cmd.Wait() != nil {
		return 1
	}
	return 0
}
