package localgit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/gitcmd"
)

// A stream of objectsProtocol begins with a line, the name of the repository. The
// answer is a line as well, "ok" or what is wrong; then both sides speak git's pack
// protocol (gitprotocol-pack), the caller as its client.
const (
	answerOK   = "ok"
	longestRow = 256
)

// guardStream is a stream whose reads and writes do not wait longer than a time for a
// byte.
type guardStream struct {
	network.Stream
	gap time.Duration
}

func (g *guardStream) Read(b []byte) (int, error) {
	_ = g.SetReadDeadline(time.Now().Add(g.gap))
	return g.Stream.Read(b)
}

func (g *guardStream) Write(b []byte) (int, error) {
	_ = g.SetWriteDeadline(time.Now().Add(g.gap))
	return g.Stream.Write(b)
}

// fetchFrom gets objects of a repository from a node.
func (s *Server) fetchFrom(ctx context.Context, p peer.ID, name, dir string, tips []string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	release, err := s.fetchSlots.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, done := s.pulse.Guard(ctx, p)
	defer done()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: objects of %s from %s: %w", taubyte.ErrUnavailable, name, p, errors.Join(context.Cause(ctx), err))
		}
	}()
	open, opened := context.WithTimeout(network.WithNoDial(ctx, "git"), hearFor)
	defer opened()
	raw, err := s.host.NewStream(open, p, objectsProtocol)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Reset() })
	defer stop()
	_ = raw.SetDeadline(time.Now().Add(hearFor))
	if _, err := io.WriteString(raw, name+"\n"); err != nil {
		return err
	}
	stream := &guardStream{raw, hearFor}
	in := bufio.NewReaderSize(stream, 64<<10)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if said := strings.TrimSuffix(string(line), "\n"); said != answerOK {
		return errors.New(said)
	}
	return s.fetchOver(ctx, dir, tips, in, stream)
}

// fetchOver runs git as the client of who is at the other end of a stream.
func (s *Server) fetchOver(ctx context.Context, dir string, tips []string, in io.Reader, stream *guardStream) error {
	stream.gap = fetchGap
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	// git speaks over descriptor 3, and says on it when it has no more to say.
	cmd := gitcmd.New(ctx, dir, "fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--no-auto-gc", "--refmap=", "--stdin", "fd::3")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdin = strings.NewReader(strings.Join(tips, "\n") + "\n")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return err
	}
	var copies sync.WaitGroup
	copies.Go(func() {
		_, _ = io.Copy(ours, in)
		_ = ours.CloseWrite()
	})
	copies.Go(func() {
		_, _ = io.Copy(stream, ours)
		_ = stream.CloseWrite()
	})
	err = cmd.Wait()
	// git is gone: who copies ends by the ends of the socket and the stream.
	_ = ours.Close()
	_ = stream.Reset()
	copies.Wait()
	if err != nil {
		return fmt.Errorf("git fetch: %s: %w", strings.TrimSpace(errOut.String()), err)
	}
	return nil
}

// serveObjects gives objects to another control node.
func (s *Server) serveObjects(raw network.Stream) {
	ended := make(chan struct{})
	if !s.spawn(func() {
		defer close(ended)
		if err := s.giveObjects(raw); err != nil {
			s.log.Debug("git: objects not given", "peer", raw.Conn().RemotePeer(), "err", err)
			_ = raw.Reset()
			return
		}
		_ = raw.Close()
	}) {
		_ = raw.Reset()
		return
	}
	<-ended
}

func (s *Server) giveObjects(raw network.Stream) error {
	ctx, cancel := context.WithTimeout(s.life, transferTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = raw.Reset() })
	defer stop()
	p := raw.Conn().RemotePeer()
	m, err := s.host.Member(ctx, p)
	if err != nil {
		return err
	}
	if !m.Has(taubyte.RoleAuth) {
		return fmt.Errorf("%w: %s holds %v", taubyte.ErrForbidden, p, m.Roles)
	}
	stream := &guardStream{raw, fetchGap}
	in := bufio.NewReaderSize(stream, 4<<10)
	line, err := in.ReadSlice('\n')
	if err != nil || len(line) > longestRow {
		return fmt.Errorf("%w request: %w", taubyte.ErrInvalid, err)
	}
	name := strings.TrimSuffix(string(line), "\n")
	if err := checkName(name); err != nil {
		_, _ = fmt.Fprintln(stream, err)
		return err
	}
	if there, err := s.onDisk(name); err != nil || !there {
		_, _ = fmt.Fprintln(stream, "no git repository "+name+" on this node")
		return err
	}
	wait, waited := context.WithTimeout(ctx, hearFor/2)
	release, err := s.peerSlots.take(wait)
	waited()
	if err != nil {
		_, _ = fmt.Fprintln(stream, "too many at a time")
		return err
	}
	defer release()
	if _, err := fmt.Fprintln(stream, answerOK); err != nil {
		return err
	}
	return uploadPack(ctx, s.path(name), in, stream)
}

// uploadPack runs git as the server of who is at the other end of a stream.
func uploadPack(ctx context.Context, dir string, in io.Reader, stream *guardStream) error {
	cmd := gitcmd.New(ctx, dir, "upload-pack", "--strict", dir)
	cmd.Env = append(cmd.Env, "GIT_PROTOCOL=version=2") // in which objects are had that no reference leads to yet
	var errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{stream}, &errOut
	return converse(cmd, in, &errOut, func() { _ = stream.CloseRead() })
}

// converse runs a command whose input may go on after its end. end makes reads of it
// return.
func converse(cmd *exec.Cmd, in io.Reader, errOut *bytes.Buffer, end func()) error {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		_ = stdin.Close()
		return err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(stdin, in)
		_ = stdin.Close()
	}()
	err = cmd.Wait()
	end()
	<-copied
	if err != nil {
		return fmt.Errorf("git %s: %s: %w", cmd.Args[1], strings.TrimSpace(errOut.String()), err)
	}
	return nil
}
