package localgit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/internal/gitcmd"
)

// The server's side of a push (gitprotocol-pack, "Pushing data to a server"). It is not
// git's own receive-pack, which would change references before another node has them.
const (
	receiveCapabilities = "report-status delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1 agent=taubyte"
	zeroHash            = "0000000000000000000000000000000000000000"

	maxCommands  = 4 << 20 // bytes of the commands of a push
	maxSideBand  = 65515
	flushPacket  = "0000"
	longestSaid  = 900
	incoming     = ".incoming-"
	emptyPackLen = 12
)

func packet(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

// advertisePush lists the references for a client that is going to push.
func (s *Server) advertisePush(w http.ResponseWriter, name string) {
	r := s.repository(name)
	r.mu.Lock()
	refs := r.refs
	r.mu.Unlock()
	var b strings.Builder
	b.WriteString(packet("# service=git-receive-pack\n") + flushPacket)
	capabilities := "\x00" + receiveCapabilities
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		b.WriteString(packet(refs[ref] + " " + ref + capabilities + "\n"))
		capabilities = ""
	}
	if capabilities != "" {
		b.WriteString(packet(zeroHash + " capabilities^{}" + capabilities + "\n"))
	}
	b.WriteString(flushPacket)
	w.Header().Set("Content-Type", "application/x-git-receive-pack-advertisement")
	_, _ = io.WriteString(w, b.String())
}

// readPacket reads one packet; flush says that it was the one that ends a list.
func readPacket(r io.Reader) (line string, flush bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", false, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	switch {
	case err != nil || n > 0 && n < 4:
		return "", false, fmt.Errorf("%w packet", taubyte.ErrInvalid)
	case n == 0:
		return "", true, nil
	}
	b := make([]byte, n-4)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", false, err
	}
	return strings.TrimSuffix(string(b), "\n"), false, nil
}

// readCommands reads what a client wants changed, and what it can take as an answer.
func readCommands(r io.Reader) (updates []update, capabilities []string, err error) {
	size := 0
	for {
		line, flush, err := readPacket(r)
		if errors.Is(err, io.EOF) && len(updates) == 0 && size == 0 {
			return nil, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if flush {
			return updates, capabilities, nil
		}
		if size += len(line); size > maxCommands {
			return nil, nil, fmt.Errorf("%w: commands of a push", taubyte.ErrTooLarge)
		}
		if strings.HasPrefix(line, "shallow ") { // what the client has not; the server may
			continue
		}
		line, can, ok := strings.Cut(line, "\x00")
		if ok && capabilities == nil {
			capabilities = strings.Fields(can)
		}
		parts := strings.SplitN(line, " ", 3)
		if len(parts) != 3 || len(parts[0]) != len(zeroHash) || !isHash(parts[0]) || len(parts[1]) != len(zeroHash) || !isHash(parts[1]) {
			return nil, nil, fmt.Errorf("%w command of a push", taubyte.ErrInvalid)
		}
		updates = append(updates, update{Ref: parts[2], Old: parts[0], New: parts[1]})
	}
}

// receive takes a push.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, name string) {
	body, err := s.body(w, r)
	if err != nil {
		http.Error(w, "the request's body is not readable", http.StatusBadRequest)
		return
	}
	in := bufio.NewReaderSize(body, 64<<10)
	updates, capabilities, err := readCommands(in)
	if err != nil {
		http.Error(w, "this is no push: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
	if len(updates) == 0 { // a client that looks whether it may
		w.WriteHeader(http.StatusOK)
		return
	}
	p := push{Name: name, Updates: updates, Atomic: slices.Contains(capabilities, "atomic")}
	refused := make([]string, len(updates))
	var sent []int // updates that go on to be decided
	unpacked := s.takePack(r.Context(), p, in, refused)
	out := outcome{}
	if unpacked == nil {
		for i := range updates {
			if refused[i] == "" {
				sent = append(sent, i)
			}
		}
		if p.Atomic && len(sent) < len(updates) {
			sent = nil
		}
		out, err = s.commitSome(r.Context(), p, sent, refused)
		if err != nil {
			s.log.Warn("git push not taken", "name", name, "err", err)
			out.Said = append(out.Said, err.Error())
		}
	}
	if r.Context().Err() != nil {
		return
	}
	report := packet("unpack " + unpackWord(unpacked) + "\n")
	for i, u := range updates {
		if reason := refused[i]; reason != "" || unpacked != nil {
			if reason == "" {
				reason = "unpacker error"
			}
			report += packet("ng " + u.Ref + " " + reason + "\n")
		} else {
			report += packet("ok " + u.Ref + "\n")
		}
	}
	report += flushPacket
	if !slices.Contains(capabilities, "report-status") {
		report = ""
	}
	if !slices.Contains(capabilities, "side-band-64k") {
		_, _ = io.WriteString(w, report)
		return
	}
	var answer strings.Builder
	for part := range slices.Chunk([]byte(report), maxSideBand) {
		answer.WriteString(packet("\x01" + string(part)))
	}
	for _, line := range out.Said {
		answer.WriteString(packet("\x02taubyte: " + line[:min(len(line), longestSaid)] + "\n"))
	}
	answer.WriteString(flushPacket)
	_, _ = io.WriteString(w, answer.String())
}

// unpackWord is one line, as the report has it.
func unpackWord(err error) string {
	if err == nil {
		return "ok"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line[:min(len(line), longestSaid)]
}

// commitSome has those of a push's updates decided, and sets why the others were not.
func (s *Server) commitSome(ctx context.Context, p push, sent []int, refused []string) (outcome, error) {
	if len(sent) == 0 {
		for i := range refused {
			if refused[i] == "" {
				refused[i] = reasonAtomic
			}
		}
		return outcome{}, nil
	}
	some := push{Name: p.Name, Atomic: p.Atomic}
	for _, i := range sent {
		some.Updates = append(some.Updates, p.Updates[i])
	}
	// From here on the push is what it is, whether or not the client waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transferTime)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	out, err := s.commit(ctx, some)
	for k, i := range sent {
		switch {
		case err != nil:
			refused[i] = "not taken, try again"
		case k < len(out.Refused):
			refused[i] = out.Refused[k]
		}
	}
	return out, err
}

// takePack takes the objects of a push to the disk, and sets which updates can't be
// made with them. When it returns an error nothing is left of the pack.
func (s *Server) takePack(ctx context.Context, p push, in *bufio.Reader, refused []string) error {
	for i, u := range p.Updates {
		if checkRef(u.Ref) != nil {
			refused[i] = "funny refname"
		}
	}
	tips := p.tips()
	if len(tips) == 0 {
		return nil
	}
	dir := s.path(p.Name)
	quarantine, err := os.MkdirTemp(s.dir, incoming+"*")
	if err != nil {
		return errNotStored
	}
	defer os.RemoveAll(quarantine)
	if err := os.Mkdir(filepath.Join(quarantine, "pack"), 0o700); err != nil {
		return errNotStored
	}
	apart := []string{"GIT_OBJECT_DIRECTORY=" + quarantine, "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + filepath.Join(dir, "objects")}
	head, err := in.Peek(emptyPackLen)
	switch {
	case err != nil:
		return fmt.Errorf("the pack ended early: %w", err)
	case bytes.Equal(head[8:12], []byte{0, 0, 0, 0}): // no objects: they are here already
	default:
		var errOut bytes.Buffer
		cmd := gitcmd.New(ctx, dir, "index-pack", "--stdin", "--fix-thin", "--strict", "--max-input-size="+strconv.FormatInt(s.maxPush, 10))
		cmd.Env = append(cmd.Env, apart...)
		cmd.Stderr = &errOut
		if err := converse(cmd, in, &errOut, func() {}); err != nil {
			s.log.Info("git pack refused", "name", p.Name, "err", err)
			return errors.New("index-pack failed: " + lastLine(errOut.String()))
		}
	}
	for i, u := range p.Updates {
		if isZero(u.New) || refused[i] != "" {
			continue
		}
		kind, err := s.apart(ctx, dir, apart, "", "cat-file", "-t", u.New)
		switch {
		case err != nil:
			refused[i] = "missing necessary objects"
		case strings.HasPrefix(u.Ref, headsPrefix) && strings.TrimSpace(kind) != "commit":
			refused[i] = "a branch leads to a commit"
		}
	}
	input := ""
	for i, u := range p.Updates {
		if !isZero(u.New) && refused[i] == "" {
			input += u.New + "\n"
		}
	}
	if input == "" {
		return nil
	}
	if _, err := s.apart(ctx, dir, apart, input, "rev-list", "--objects", "--quiet", "--stdin", "--not", "--all"); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for i, u := range p.Updates {
			if !isZero(u.New) && refused[i] == "" {
				refused[i] = "missing necessary objects"
			}
		}
		return nil
	}
	if err := migrate(filepath.Join(quarantine, "pack"), filepath.Join(dir, "objects", "pack")); err != nil {
		s.log.Error("git pack not stored", "name", p.Name, "err", err)
		return errNotStored
	}
	return nil
}

var errNotStored = errors.New("the objects could not be stored")

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// apart is short with objects that are not in the repository yet.
func (s *Server) apart(ctx context.Context, dir string, env []string, input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortTime)
	defer cancel()
	release, err := s.shortSlots.take(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	cmd := gitcmd.New(ctx, dir, args...)
	cmd.Env = append(cmd.Env, env...)
	return run(ctx, cmd, input)
}

// migrate moves a pack into the repository, its index last: git finds a pack by that.
func migrate(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b fs.DirEntry) int {
		return boolOrder(filepath.Ext(b.Name()) == ".idx", filepath.Ext(a.Name()) == ".idx")
	})
	for _, f := range files {
		if err := os.Rename(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return err
		}
	}
	d, err := os.Open(to)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tell calls onPush for the branches that a push changed, and returns what is to be
// said to the pusher. It is called by the node that decided.
func (s *Server) tell(ctx context.Context, name string, made []update) (said []string) {
	ctx, cancel := context.WithTimeout(ctx, telling)
	defer cancel()
	for _, u := range made {
		branch, ok := strings.CutPrefix(u.Ref, headsPrefix)
		if !ok {
			continue
		}
		p := auth.Push{Repository: auth.NewRepositoryID(s.Name(), name), Branch: taubyte.Branch(branch)}
		if !isZero(u.New) {
			p.Commit = taubyte.Commit(u.New)
		}
		line, err := s.onPush(ctx, name, p)
		if err != nil {
			s.log.Warn("git push not taken up", "name", name, "branch", p.Branch, "err", err)
			line = err.Error()
		}
		if line != "" {
			said = append(said, line)
		}
	}
	return said
}

// conflicts tells a pusher what became of pushes that a branch does not have.
func (s *Server) conflicts(name string, made []update) (said []string) {
	r := s.repository(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref := range r.refs {
		rest, ok := strings.CutPrefix(ref, conflictsPrefix)
		if !ok {
			continue
		}
		_, of, _ := strings.Cut(rest, "/")
		if slices.ContainsFunc(made, func(u update) bool { return u.Ref == "refs/"+of }) {
			said = append(said, "another push to "+of+", made while nodes were cut off from each other, is at "+ref)
		}
	}
	slices.Sort(said)
	return said
}
