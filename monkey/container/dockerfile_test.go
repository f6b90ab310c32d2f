package container_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/container"
	"github.com/taubyte/taubyte/monkey/container/containertest"
)

// A dockerfile is a build of an image by one.
type dockerfile struct {
	log  *testbin.Buffer
	spec monkey.Spec
}

func newDockerfile(owner, text string, files map[string]string) *dockerfile {
	context := fstest.MapFS{"Dockerfile": {Data: []byte(text), Mode: 0o600}}
	for name, text := range files {
		context[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
		if to, ok := strings.CutPrefix(text, "->"); ok {
			context[name] = &fstest.MapFile{Data: []byte(to), Mode: os.ModeSymlink | 0o777}
		}
	}
	d := &dockerfile{log: &testbin.Buffer{}}
	d.spec = monkey.Spec{Owner: owner, Log: d.log, Dockerfile: &monkey.Dockerfile{Name: "Dockerfile", Context: context, Target: "site"}}
	return d
}

// files are those of the image's /out.
func (d *dockerfile) files(ctx context.Context, e *container.Engine) (map[string]string, error) {
	got, err := e.Files(ctx, d.spec, "out")
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for r := tar.NewReader(got); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, got.Close()
		}
		if err != nil {
			return nil, errors.Join(err, got.Close())
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, errors.Join(err, got.Close())
		}
		if h.Typeflag == tar.TypeReg {
			all[h.Name] = string(text)
		}
	}
}

// layers are the images that a node has built.
func layers(t *testing.T, node string) []string { return containertest.Built(t, node) }

func builder(t *testing.T) *container.Engine {
	e := engine(t)
	t.Cleanup(func() { containertest.ForgetBuilt(t, t.Name()) })
	return e
}

func TestDockerfile(t *testing.T) {
	e := builder(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	secret := filepath.Join(t.TempDir(), "authority.key")
	require.NoError(t, os.WriteFile(secret, []byte("ROOTKEY"), 0o644))
	t.Setenv("NODE_SECRET", "hunter2")

	text := fmt.Sprintf(`# syntax=docker/dockerfile:1
ARG BASE=%s
FROM --platform=$BUILDPLATFORM ${BASE} AS Build
LABEL taubyte.owner=mine taubyte.node=mine
VOLUME /kept
WORKDIR /app
ADD . .
RUN mkdir /out && \
    # a comment in between
    cat page.html > /out/index.html; \
    ls -A > /out/files; env > /out/env; cat %s; nc -w 2 127.0.0.1 %s </dev/null && echo yes > /out/reached; ls /sys/class/net > /out/net; true
FROM scratch
COPY --from=build /out /out
`, testImage, secret, port)
	files := map[string]string{
		"page.html": "<p>hello", "node_modules/x.js": "x", "note.txt": "note", ".dockerignore": "node_modules\n*.txt\n!keep.txt\n", "keep.txt": "kept",
		"in.html": "->page.html", "out.html": "->../../etc/passwd", "abs.html": "->/etc/passwd",
	}
	d := newDockerfile("one", text, files)
	got, err := d.files(t.Context(), e)
	require.NoError(t, err, d.log)
	require.Equal(t, "<p>hello", got["out/index.html"])
	require.Equal(t, "Dockerfile\nin.html\nkeep.txt\npage.html\n", got["out/files"])
	require.Equal(t, "lo\n", got["out/net"], "there is no network")
	require.NotContains(t, got, "out/reached")
	for _, bad := range []string{"ROOTKEY", "hunter2"} {
		require.NotContains(t, d.log.String()+got["out/env"], bad)
	}
	require.Contains(t, d.log.String(), "note: out.html leads out of the Dockerfile's folder and is left out")
	const ran = "cat: can't open"
	require.Contains(t, d.log.String(), ran)
	require.Empty(t, containers(t, t.Name()), "all are gone")
	before := layers(t, t.Name())
	require.NotEmpty(t, before, "what it made is labelled, whatever the Dockerfile says")

	// The same again runs nothing.
	d = newDockerfile("one", text, files)
	began := time.Now()
	got, err = d.files(t.Context(), e)
	require.NoError(t, err)
	t.Logf("again in %s", time.Since(began))
	require.Equal(t, "<p>hello", got["out/index.html"])
	require.NotContains(t, d.log.String(), ran)
	require.ElementsMatch(t, before, layers(t, t.Name()))

	// Another project runs all by itself.
	other := newDockerfile("two", text, files)
	_, err = other.files(t.Context(), e)
	require.NoError(t, err)
	require.Contains(t, other.log.String(), ran)
	require.Greater(t, len(layers(t, t.Name())), len(before))

	// What is built otherwise takes the place of what was built before.
	d = newDockerfile("one", "FROM "+testImage+"\nRUN mkdir /out; echo 2 > /out/index.html; rm -rf /bin/vi\n", nil)
	got, err = d.files(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, "2\n", got["out/index.html"])
	shared := 0
	for _, id := range layers(t, t.Name()) {
		if slices.Contains(before, id) {
			shared++
		}
	}
	require.LessOrEqual(t, shared, 1, "both begin with the same label")

	// No other project may name it, whoever has given it a name.
	found := ""
	for _, id := range layers(t, t.Name()) {
		if !slices.Contains(before, id) {
			found = id
		}
	}
	api := containertest.Client(t)
	_, err = api.ImageTag(t.Context(), client.ImageTagOptions{Source: found, Target: "taubyte-test/taken:1"})
	require.NoError(t, err)
	r := newRun(t)
	r.spec.Owner, r.spec.Image = "three", "taubyte-test/taken:1"
	require.ErrorIs(t, r.exec(t, e, "true"), taubyte.ErrForbidden)
	_, err = newDockerfile("three", "FROM taubyte-test/taken:1\n", nil).files(t.Context(), e)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
}

// An image that a Dockerfile makes is what the commands of its session run in.
func TestDockerfileOfASession(t *testing.T) {
	e := builder(t)
	d := newDockerfile("one", "FROM "+testImage+"\nRUN echo made > /made\nENV FLAVOUR=own\nUSER nobody\nENTRYPOINT [\"/bin/false\"]\n", nil)
	r := newRun(t)
	r.spec.Owner, r.spec.Dockerfile = "one", d.spec.Dockerfile
	require.NoError(t, r.exec(t, e, `cat /made; echo "$FLAVOUR" > $OUT/x; echo x > /made 2>/dev/null || echo READONLY`))
	require.Contains(t, r.log.String(), "\nmade\n")
	require.Contains(t, r.log.String(), "READONLY\n")

	r.spec.Dockerfile = newDockerfile("one", "FROM "+testImage+"\nRUN exit 7\n", nil).spec.Dockerfile
	var exit *monkey.ExitError
	require.ErrorAs(t, r.exec(t, e, "true"), &exit)
	require.Contains(t, exit.Error(), "7")
}

// What would be done by the engine itself, past all limits, and what is not there.
func TestDockerfilesThatAreRefused(t *testing.T) {
	e := builder(t)
	containertest.Image(t, "taubyte-test/onbuild:1", "ONBUILD ADD http://169.254.169.254/ /x")
	containertest.Image(t, "taubyte-test/volume:1", "VOLUME /data")
	from := "FROM " + testImage + "\n"
	for text, says := range map[string]string{
		"":          "no FROM",
		"RUN true":  "RUN before the first FROM",
		from + "XY": `no instruction "XY"`,
		from + "ADD http://169.254.169.254/latest /x":            "fetch it without any limit",
		from + "ADD [\"https://example.com/x\", \"/x\"]":         "fetch it without any limit",
		from + "ADD git@example.com:a/b.git /x":                  "fetch it without any limit",
		from + "ARG U=http://169.254.169.254/\nADD $U /x":        "whatever the variable holds",
		from + "ARG U=http://169.254.169.254/\nADD \\\n  $U /x":  "whatever the variable holds",
		"# escape=`\n" + from + "ADD `\n  http://127.0.0.1/x /x": "fetch it without any limit",
		from + "ADD bomb.tar.gz /x":                              "unpack it without any limit",
		from + "ONBUILD RUN true":                                "ONBUILD is not built",
		from + "RUN --mount=type=cache,target=/x true":           "needs BuildKit",
		from + "RUN <<EOF\nFROM other\nEOF":                      "here-documents need BuildKit",
		from + "COPY --from=$X /a /b":                            "a variable names no image",
		from + "COPY --from=3 /a /b":                             "no earlier stage",
		"FROM taubyte-test/onbuild:1":                            "ONBUILD",
		"FROM taubyte-test/volume:1":                             "declares volumes",
		"ARG X\nFROM $X":                                         "without a name",
		"FROM $(x)":                                              "can't tell what",
		"FROM UPPER":                                             "",
		from + "COPY nothing /":                                  "nothing",
		from + "COPY ../../etc/passwd /":                         "passwd",
		from + "RUN true\\":                                      "nothing follows",
	} {
		_, err := newDockerfile("one", text, nil).files(t.Context(), e)
		require.ErrorIs(t, err, taubyte.ErrInvalid, "%q", text)
		require.Contains(t, err.Error(), says, "%q", text)
	}
	var missing *monkey.MissingError
	for _, text := range []string{"FROM taubyte-test/nowhere\n", from + "COPY --from=taubyte-test/nowhere /a /b\n", "ARG B=taubyte-test/nowhere\nFROM ${B:-x}\n"} {
		_, err := newDockerfile("one", text, nil).files(t.Context(), e)
		require.ErrorAs(t, err, &missing, text)
		require.Contains(t, missing.Error(), "the image taubyte-test/nowhere is not on this node", text)
	}
	_, err := newDockerfile("one", from+"RUN true\n", nil).files(t.Context(), e)
	require.ErrorContains(t, err, "no folder /out")

	refuses := containertest.New(t, t.Name()+"-refuses", container.Config{Image: testImage, Dockerfiles: container.DockerfilesRefuse})
	_, err = newDockerfile("one", from, nil).files(t.Context(), refuses)
	require.ErrorAs(t, err, &missing)
	require.Empty(t, containers(t, t.Name()))
}

func TestDockerfileLimits(t *testing.T) {
	e := builder(t)
	from := "FROM " + testImage + "\n"
	for what, c := range map[string]struct {
		run    string
		limits monkey.Limits
		says   string
	}{
		"disk":      {"cat /dev/zero > /fill", monkey.Limits{Disk: 64 << 20}, "bytes of disk"},
		"steps":     {"head -c 40000000 /dev/zero > /a\nRUN head -c 40000000 /dev/zero > /b\nRUN sleep 600", monkey.Limits{Disk: 64 << 20}, "bytes of disk"},
		"no name":   {"exec 3> /fill; rm /fill; cat /dev/zero >&3", monkey.Limits{Disk: 64 << 20}, "bytes of disk"},
		"memory":    {"head -c 400000000 /dev/zero | tail -n 1 > /dev/null; sleep 600", monkey.Limits{Memory: 64 << 20}, "bytes of memory"},
		"processes": {"for i in $(seq 300); do sleep 600 & done; wait", monkey.Limits{Processes: 100}, "more than 100 processes"},
	} {
		d := newDockerfile("one", from+"RUN "+c.run+"\n", nil)
		d.spec.Limits = c.limits
		_, err := d.files(t.Context(), e)
		var limit *monkey.LimitError
		require.ErrorAs(t, err, &limit, what)
		require.Contains(t, limit.Error(), c.says, what)
		require.Empty(t, containers(t, t.Name()), what)
	}
	var exit *monkey.ExitError
	d := newDockerfile("one", from+"RUN while :; do :; done\n", nil)
	d.spec.Limits = monkey.Limits{CPU: time.Second}
	_, err := d.files(t.Context(), e)
	require.ErrorAs(t, err, &exit, "time of a CPU")

	// It ends when it is told to.
	because := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	d = newDockerfile("one", from+"RUN echo begun; (setsid sleep 600 &); sleep 600\n", nil)
	done := make(chan error, 1)
	go func() { _, err := d.files(ctx, e); done <- err }()
	require.Eventually(t, func() bool { return strings.Contains(d.log.String(), "\nbegun") }, 30*time.Second, 10*time.Millisecond)
	cancel(because)
	require.ErrorIs(t, <-done, because)
	require.Empty(t, containers(t, t.Name()))
}

// FuzzDockerfile: whatever is in a Dockerfile, the engine gets nothing from it that was refused.
func FuzzDockerfile(f *testing.F) {
	for _, text := range []string{
		"FROM a AS b\nRUN x \\\n y\nCOPY --from=b /x /y\n", "# escape=`\nFROM a\nADD `\n x y", "ARG A=b\nFROM ${A:-c}\nLABEL x=y", "FROM a\nRUN <<E\nx\nE\n",
		"FROM a\nADD [\"http://x\",\"y\"]", "\ufeffFROM a\r\nRUN b\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := container.Rewrite(text)
		if err != nil {
			require.True(t, errors.Is(err, taubyte.ErrInvalid) || errors.Is(err, taubyte.ErrTooLarge), err)
			return
		}
		again, err := container.Rewrite(out)
		require.NoError(t, err, "%q", out)
		require.Equal(t, string(out), string(again), "its instructions are on one line each")
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "ADD ") || strings.HasPrefix(line, "ONBUILD ") || strings.HasPrefix(line, "FROM ") && !strings.HasPrefix(line, "FROM sha256") && !strings.HasPrefix(line, "FROM scratch") {
				earlier := strings.Contains(strings.ToLower(string(out)), " as "+strings.ToLower(strings.Fields(line)[1]))
				require.True(t, earlier, "%q", line)
			}
		}
	})
}
