package monkey_test

import (
	"archive/tar"
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/monkey"
)

var tinyModule = []byte("\x00asm\x01\x00\x00\x00" + // (module (func (export "ping") (param i32)) (memory (export "memory") 1))
	"\x01\x05\x01\x60\x01\x7f\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x11\x02\x04ping\x00\x00\x06memory\x02\x00" + "\x0a\x04\x01\x02\x00\x0b")

// importing is a module of one import, of a function from an i32 to an i32.
func importing(module, name string) string {
	text := "\x01" + string(rune(len(module))) + module + string(rune(len(name))) + name + "\x00\x01"
	return "\x00asm\x01\x00\x00\x00" + "\x01\x0a\x02\x60\x01\x7f\x00\x60\x01\x7f\x01\x7f" + "\x02" + string(rune(len(text))) + text +
		"\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" + "\x07\x11\x02\x04ping\x00\x01\x06memory\x02\x00" + "\x0a\x04\x01\x02\x00\x0b"
}

func TestCheckModule(t *testing.T) {
	for _, good := range []string{string(tinyModule), importing("taubyte/smartops", "getNodeId"), importing("libraries/x", "any")} {
		require.NoError(t, monkey.CheckModule([]byte(good), "ping"), "%q", good)
		require.NoError(t, monkey.CheckModule([]byte(good), ""), "%q", good)
	}
	for bad, why := range map[string]string{
		"":                                      "not WebAssembly",
		"#!/bin/sh\n":                           "not WebAssembly",
		"\x00asm\x0d\x00\x01\x00":               "version",
		string(tinyModule[:len(tinyModule)-10]): "ends",
		"\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f":     "ends within section 1",
		"\x00asm\x01\x00\x00\x00\x07\x05\xff\xff\xff\xff\x0f": "ends in the middle",
		importing("env", "emscripten_x"):                      `imports "emscripten_x" from env, which has no such function`,
		importing("go", "x"):                                  `imports "x" from "go"; a module imports from taubyte/sdk`,
		importing("taubyte/sdk", "getEventType"):              `"getEventType" from taubyte/sdk as a function (i32) → i32, and it is one (i32, i32)`,
		importing("wasi_snapshot_preview1", "proc_exit"):      "and it is one (i32)",
		strings.Replace(string(tinyModule), "\x01\x05\x01\x60\x01\x7f\x00", "\x01\x04\x01\x60\x00\x00", 1): `"ping" is one ()`,
		strings.Replace(importing("taubyte/smartops", "getNodeId"), "memory", "remory", 1):                 `no memory of the name "memory"`,
		strings.Replace(string(tinyModule), "ping", "pong", 1):                                             `exports no function "ping"`,
		strings.Replace(string(tinyModule), "\x0a\x04\x01\x02\x00\x0b", "\x0a\x04\x01\x02\x00\xff", 1):     "not supported",
	} {
		err := monkey.CheckModule([]byte(bad), "ping")
		require.ErrorIs(t, err, taubyte.ErrInvalid, "%q", bad)
		require.ErrorContains(t, err, why, "%q", bad)
	}
}

func FuzzCheckModule(f *testing.F) {
	f.Add(tinyModule)
	f.Add([]byte(importing("taubyte/smartops", "getNodeId")))
	f.Fuzz(func(t *testing.T, b []byte) { _ = monkey.CheckModule(b, "ping") })
}

func TestParseWorkflow(t *testing.T) {
	for _, good := range []string{
		"version: 1.0\nenvironment:\n  image: taubyte/go-wasi\n  variables:\nworkflow: [build]",
		"enviroment:\n  image: x\n  variables: {A: b, N: 1}\nworkflow:\n  - build\n  - second",
		"environment:\n  variables:\n    - A: b\n    - C: d\nworkflow: [build]",
		"environment:\n  variables:\n    - A=b=c\n    - C: 1\n    - {D: e, F: g}\nworkflow: [build.sh]",
		"environment: null\nworkflow: [build]", "environment: {image: null, variables: null}\nworkflow: [build]",
		"workflow: [build]", "", "workflow: []", "version: 1.00\nenviroment:\n  image: node\n  variables:\nworkflow:\n",
	} {
		require.NoError(t, monkey.ParseWorkflow([]byte(good)), good)
	}
	for _, bad := range []string{
		"workflow: [../x]", "workflow: [a/b]", "workflow: [-c]", "workflow: {a: b}",
		"environment: {variables: {'A B': c}}\nworkflow: [x]", "environment: {variables: text}\nworkflow: [x]", "\t",
	} {
		require.ErrorIs(t, monkey.ParseWorkflow([]byte(bad)), taubyte.ErrInvalid, bad)
	}
}

func FuzzParseWorkflow(f *testing.F) {
	f.Add([]byte("environment:\n  variables: {A: b}\nworkflow: [build]"))
	f.Fuzz(func(t *testing.T, b []byte) { _ = monkey.ParseWorkflow(b) })
}

func archive(t testing.TB, headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write(make([]byte, h.Size))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// An archive can't lead out of its folder, by names or by links.
func TestUnpackStaysInside(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dots":      {{Name: "../evil", Typeflag: tar.TypeReg, Size: 1}},
		"absolute":  {{Name: "/evil", Typeflag: tar.TypeReg, Size: 1}},
		"by a link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "l/evil", Typeflag: tar.TypeReg, Size: 1}},
		"over link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../evil"}, {Name: "l", Typeflag: tar.TypeReg, Size: 1}},
		"device":    {{Name: "evil", Typeflag: tar.TypeChar}},
		"hard link": {{Name: "evil", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}},
		"too large": {{Name: "evil", Typeflag: tar.TypeReg, Size: 5000}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			inside := filepath.Join(dir, "inside")
			require.NoError(t, os.Mkdir(inside, 0o700))
			root, err := os.OpenRoot(inside)
			require.NoError(t, err)
			defer root.Close()
			require.Error(t, monkey.Unpack(root, bytes.NewReader(archive(t, headers...)), 4000))
			_, err = os.Lstat(filepath.Join(dir, "evil"))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 3}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "inside"), 0o700))
		root, err := os.OpenRoot(filepath.Join(dir, "inside"))
		require.NoError(t, err)
		defer root.Close()
		_ = monkey.Unpack(root, bytes.NewReader(b), 1<<16)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
	})
}

func FuzzAdaptGo(f *testing.F) {
	f.Add(tauFunction)
	f.Add("package lib // no main\r\n\r\n//export f\r\nfunc f() {}\r\n")
	f.Add("package main\n\n//go:wasm-module a b\n//export\nfunc (x T[U]) f(...int)\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		name := filepath.Join(dir, "a.go")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		_, before := parser.ParseFile(token.NewFileSet(), "a.go", text, 0)
		err := monkey.AdaptGo(t.Context(), dir)
		after, _ := os.ReadFile(name)
		_, parses := parser.ParseFile(token.NewFileSet(), "a.go", after, 0)
		if before == nil && parses != nil {
			t.Fatalf("%v: %v:\n%s", err, parses, after)
		}
	})
}

func FuzzLockURLs(f *testing.F) {
	f.Add(`{"packages": {"a": {"resolved": "https://x/y"}}, "dependencies": {"b": {"version": "1", "dependencies": {"c": {"version": "git://x"}}}}}`)
	f.Add("a@^1:\n  resolved \"https://x/y\"\n")
	f.Add("packages: {a: {resolution: {tarball: 'https://x/y', type: git, repo: z}}}")
	f.Fuzz(func(t *testing.T, text string) {
		for _, manager := range []string{"npm", "yarn", "pnpm"} {
			_, _ = monkey.LockURLs(manager, []byte(text))
		}
	})
}
