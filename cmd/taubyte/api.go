package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
)

// apiFlags say which node a command is for.
type apiFlags struct {
	data, url, token, file string
}

func (a *apiFlags) declare(fs *flag.FlagSet) {
	fs.StringVar(&a.data, "data", "", "the data folder of the node to ask, on its machine (default: $TAUBYTE_DATA; without any, that of the one development cloud that runs)")
	fs.StringVar(&a.url, "api", "", "the URL of the node's API, instead of --data; it wants a token (default: $TAUBYTE_API)")
	fs.StringVar(&a.token, "token", "", "the token to show; others on this machine can read what a command is called with, so rather use the next or $TAUBYTE_TOKEN")
	fs.StringVar(&a.file, "token-file", "", "a file with the token to show (default: $TAUBYTE_TOKEN_FILE; without any, with --data, the node's own)")
}

// asking makes what runs a command that asks a node: it declares the flags that say
// which, and opens its API.
func asking(fs *flag.FlagSet, do func(*invocation, *api) error) func(*invocation) error {
	var a apiFlags
	a.declare(fs)
	return func(inv *invocation) error {
		c, err := a.open(inv)
		if err != nil {
			return err
		}
		return do(inv, c)
	}
}

// list fetches a list, and prints it for a script or as a table.
func list[T any](inv *invocation, c *api, path string, heading []string, rows func(T) [][]string) error {
	all := []T{}
	if err := c.call(http.MethodGet, path, nil, &all); err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(all)
	}
	var lines [][]string
	for _, v := range all {
		lines = append(lines, rows(v)...)
	}
	return inv.table(heading, lines)
}

// api is a node's HTTP API.
type api struct {
	inv        *invocation
	url, token string
	header     http.Header // sent with each request
	http       *http.Client
}

// open finds the node.
func (a *apiFlags) open(inv *invocation) (*api, error) {
	if a.url == "" && a.data == "" {
		a.url, a.data = os.Getenv("TAUBYTE_API"), os.Getenv("TAUBYTE_DATA")
	}
	c := &api{inv: inv, url: strings.TrimRight(a.url, "/"), token: a.token, http: &http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: time.Minute, DisableKeepAlives: true,
	}}}
	var err error
	if c.token, err = a.shown(); err != nil {
		return nil, err
	}
	switch {
	case c.url != "" && a.data != "":
		return nil, fmt.Errorf("%w: --api and --data are both given", taubyte.ErrInvalid)
	case c.url != "":
		if !strings.Contains(c.url, "://") {
			c.url = "http://" + c.url
		}
		return c, nil
	}
	chosen := c.token
	dirs := []string{a.data}
	if a.data == "" {
		root, err := devRoot()
		if err != nil {
			return nil, err
		}
		if dirs, err = filepath.Glob(filepath.Join(root, "*")); err != nil {
			return nil, err
		}
	}
	var running []string
	for _, dir := range dirs {
		info, token, err := cloud.ReadInfo(dir)
		if errors.Is(err, taubyte.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		probe := &api{inv: inv, url: info.API, http: c.http}
		if probe.call(http.MethodGet, "/healthz", nil, nil) != nil {
			continue // what a crash left behind
		}
		running = append(running, dir)
		c.url, c.token = info.API, cmp.Or(chosen, token)
	}
	switch {
	case len(running) == 1:
		return c, nil
	case len(running) > 1:
		return nil, fmt.Errorf("%w: several nodes run here: choose one with --data\n  %s", taubyte.ErrConflict, strings.Join(running, "\n  "))
	case a.data != "":
		return nil, fmt.Errorf("%w: no node runs on %s", taubyte.ErrUnavailable, a.data)
	}
	return nil, fmt.Errorf("%w: no development cloud runs here: start one with \"taubyte dev\", or name a node with --data or --api", taubyte.ErrUnavailable)
}

// shown returns the token that was given: by flag, file or environment.
func (a *apiFlags) shown() (string, error) {
	file := cmp.Or(a.file, os.Getenv("TAUBYTE_TOKEN_FILE"))
	switch token := cmp.Or(a.token, os.Getenv("TAUBYTE_TOKEN")); {
	case a.token != "" && a.file != "":
		return "", fmt.Errorf("%w: --token and --token-file are both given", taubyte.ErrInvalid)
	case a.token != "" || a.file == "" && token != "", file == "":
		return token, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%w: the token: %w", taubyte.ErrInvalid, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// call sends in as JSON and decodes the answer into out.
func (c *api) call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	resp, err := c.stream(method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// stream sends a request and returns its answer, whose body the caller closes.
func (c *api) stream(method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(c.inv.ctx, method, c.url+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w API %s: %w", taubyte.ErrInvalid, c.url, err)
	}
	maps.Copy(req.Header, c.header)
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: no node answers at %s", taubyte.ErrUnavailable, c.url)
	}
	if err != nil && c.inv.ctx.Err() == nil {
		if in, ok := errors.AsType[*url.Error](err); ok {
			err = in.Err // without the path and the query, which the user has not typed
		}
		return nil, fmt.Errorf("%w: no answer from %s: %w", taubyte.ErrUnavailable, c.url, err)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	var said struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if json.Unmarshal(text, &said) != nil {
		said.Message = strings.TrimSpace(string(text))
	}
	switch {
	case resp.StatusCode == http.StatusNotFound && (said.Code == "" || said.Code == "no-path"):
		return nil, fmt.Errorf("%w: %s", taubyte.ErrUnavailable, notHere(path))
	case resp.StatusCode == http.StatusUnauthorized && c.token == "":
		return nil, fmt.Errorf("%w: the API at %s wants a token: --token-file or $TAUBYTE_TOKEN gives one, and on the node's machine --data the node's own", taubyte.ErrForbidden, c.url)
	}
	for status, is := range map[int]error{
		http.StatusBadRequest: taubyte.ErrInvalid, http.StatusNotFound: taubyte.ErrNotFound, http.StatusConflict: taubyte.ErrConflict,
		http.StatusServiceUnavailable: taubyte.ErrUnavailable, http.StatusForbidden: taubyte.ErrForbidden, http.StatusUnauthorized: taubyte.ErrForbidden,
	} {
		if resp.StatusCode == status {
			return nil, answered{said.Message, is}
		}
	}
	return nil, errors.New(said.Message)
}

// notHere says what it is that answers a path, of a node that does not have it.
func notHere(path string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
	if service == "acme" {
		return "this node orders no certificates: ask one that runs auth and has acme in its configuration (--data or --api)"
	}
	return "this node does not run " + service + ": ask one that does (--data or --api)"
}

// answered is an error in the node's words.
type answered struct {
	text string
	is   error
}

func (a answered) Error() string { return a.text }
func (a answered) Unwrap() error { return a.is }
