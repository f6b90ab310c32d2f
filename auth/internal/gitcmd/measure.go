package gitcmd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
)

// What is given out of a commit. A few objects can stand for a tree without end, each
// of its folders the same one ten times.
const (
	measureTime      = 5 * time.Minute // to walk a tree
	maxSourceEntries = 200_000         // files and folders
	maxSourceBytes   = 2 << 30
	maxSourceDepth   = 64
	maxSourcePath    = 4096
)

// Measure walks a commit's tree before it is read, and returns taubyte.ErrTooLarge for one
// beyond the bounds, as soon as that is known. To git archive it would be memory.
func Measure(ctx context.Context, repository string, commit taubyte.Commit) error {
	ctx, cancel := context.WithTimeoutCause(ctx, measureTime,
		fmt.Errorf("%w: its tree can't be walked in %s", taubyte.ErrTooLarge, measureTime))
	defer cancel()
	var errOut bytes.Buffer
	cmd := New(ctx, repository, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", string(commit))
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("walking its tree: %w", err)
	}
	err = countTree(out)
	late := context.Cause(ctx)
	if err != nil {
		cancel() // it is not read to its end
	}
	ended := cmd.Wait()
	switch {
	case late != nil:
		return late
	case err != nil:
		return err
	case ended != nil:
		return fmt.Errorf("walking its tree: %s: %w", strings.TrimSpace(errOut.String()), ended)
	}
	return nil
}

// countTree reads what git ls-tree says of each entry: mode, kind, object and size, then a
// tab and the path.
func countTree(r io.Reader) error {
	entries, left := 0, int64(maxSourceBytes)
	for lines := bufio.NewReaderSize(r, 2*maxSourcePath); ; {
		line, err := lines.ReadSlice(0)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: a path of more than %d bytes", taubyte.ErrTooLarge, maxSourcePath)
		case err != nil:
			return err
		}
		about, path, _ := bytes.Cut(line, []byte{'\t'})
		if len(path) > maxSourcePath {
			return fmt.Errorf("%w: a path of more than %d bytes", taubyte.ErrTooLarge, maxSourcePath)
		}
		if bytes.Count(path, []byte{'/'}) > maxSourceDepth {
			return fmt.Errorf("%w: folders are nested more than %d deep", taubyte.ErrTooLarge, maxSourceDepth)
		}
		if entries++; entries > maxSourceEntries {
			return fmt.Errorf("%w: more than %d files and folders", taubyte.ErrTooLarge, maxSourceEntries)
		}
		fields := bytes.Fields(about)
		if len(fields) != 4 {
			return fmt.Errorf("git ls-tree: %q", about)
		}
		if size, err := strconv.ParseInt(string(fields[3]), 10, 64); err == nil { // "-" of a folder
			if left -= size; left < 0 {
				return fmt.Errorf("%w: more than %d bytes", taubyte.ErrTooLarge, int64(maxSourceBytes))
			}
		}
	}
}
