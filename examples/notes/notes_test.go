package notes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
)

// A place is a program with the cloud in it, and the example on that.
type place struct {
	*testing.T
	*testbin.Process
	url    string
	client *http.Client
}

type note struct{ ID, Text, Attachment string }

// run starts the program on a folder of data.
func run(t *testing.T, program, data string) *place {
	t.Helper()
	p := &place{T: t, Process: testbin.Start(t, nil, program, "-data", data, ".")}
	route, err := url.Parse(p.Line())
	require.NoError(t, err)
	require.Equal(t, host, route.Hostname())
	p.url = "http://127.0.0.1:" + route.Port()
	p.client = &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

const host = "notes.localhost"

func (p *place) ask(method, path string, body []byte) (int, []byte) {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, p.url+path, bytes.NewReader(body))
	require.NoError(p, err)
	req.Host = host
	resp, err := p.client.Do(req)
	require.NoError(p, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p, err)
	return resp.StatusCode, text
}

// get asks for something that has to be there.
func (p *place) get(method, path string, body []byte, into any) {
	p.Helper()
	status, text := p.ask(method, path, body)
	require.Less(p, status, 300, "%s", text)
	if into != nil {
		require.NoError(p, json.Unmarshal(text, into), "%s", text)
	}
}

func (p *place) texts() (texts []string) {
	p.Helper()
	var all []note
	p.get("GET", "/notes", nil, &all)
	for _, n := range all {
		texts = append(texts, n.Text)
	}
	return texts
}

func TestNotesOutliveTheNode(t *testing.T) {
	program, data := testbin.Build(t, filepath.Join("..", "embed")), filepath.Join(t.TempDir(), "data")
	p := run(t, program, data)
	require.Empty(t, p.texts())

	var first, second, third note
	p.get("POST", "/notes", []byte("first"), &first)
	p.get("POST", "/notes", []byte("second"), &second)
	p.get("POST", "/notes", []byte("third"), &third)
	require.ElementsMatch(t, []string{"first", "second", "third"}, p.texts())

	picture := make([]byte, 600_000) // of several blocks
	_, _ = rand.NewChaCha8([32]byte{1}).Read(picture)
	id := url.QueryEscape(second.ID)
	status, _ := p.ask("GET", "/attachment?id="+id, nil)
	require.Equal(t, http.StatusNotFound, status)
	p.get("PUT", "/attachment?name=cat.png&id="+id, []byte("a draft"), nil)
	p.get("PUT", "/attachment?name=cat.png&id="+id, picture, &second)
	require.Equal(t, "cat.png", second.Attachment)
	_, got := p.ask("GET", "/attachment?id="+id, nil)
	require.True(t, bytes.Equal(picture, got))

	status, _ = p.ask("DELETE", "/notes?id="+url.QueryEscape(first.ID), nil)
	require.Equal(t, http.StatusNoContent, status)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/notes?id=" + url.QueryEscape(first.ID), http.StatusNotFound},
		{"DELETE", "/notes?id=nothing", http.StatusNotFound},
		{"PUT", "/attachment?id=" + id, http.StatusBadRequest},
		{"POST", "/notes", http.StatusBadRequest},
		{"PATCH", "/notes", http.StatusMethodNotAllowed},
	} {
		status, text := p.ask(c.method, c.path, nil)
		require.Equal(t, c.status, status, fmt.Sprint(c.method, " ", c.path, ": ", string(text)))
	}

	for _, end := range []func(){
		func() { require.NoError(t, p.Interrupt()) },
		func() { p.Kill() }, // what a function was told is written is on the disk
	} {
		end()
		p = run(t, program, data)
		require.ElementsMatch(t, []string{"second", "third"}, p.texts())
		var again note
		p.get("GET", "/notes?id="+id, nil, &again)
		require.Equal(t, second, again)
		_, got = p.ask("GET", "/attachment?id="+id, nil)
		require.True(t, bytes.Equal(picture, got))
	}

	status, _ = p.ask("DELETE", "/notes?id="+id, nil)
	require.Equal(t, http.StatusNoContent, status)
	status, _ = p.ask("GET", "/attachment?id="+id, nil)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, []string{"third"}, p.texts())
}
