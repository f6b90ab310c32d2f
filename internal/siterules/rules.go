package siterules

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// The names of the files, at a website's root. They are not served.
const (
	RedirectsFile = "_redirects"
	HeadersFile   = "_headers"
)

// Limits of the files, which are those of Cloudflare Pages. The size is of one file.
const (
	MaxStaticRedirects  = 2000
	MaxDynamicRedirects = 100
	MaxHeaderRules      = 100
	MaxSize             = 4 << 20

	maxRedirectLine = 1000
	maxHeaderLine   = 2000
)

// Rules are those of one website. They are immutable; nil has none.
type Rules struct {
	redirects *redirects
	headers   []headerRule
}

// Parse reads the two files; one that a website does not have is empty. What is wrong is
// reported by file and line, and left out of the rules.
func Parse(redirectsText, headersText []byte) (*Rules, []error) {
	redirects, faults := parseRedirects(redirectsText)
	headers, more := parseHeaders(headersText)
	faults = append(faults, more...)
	if len(redirects.all) == 0 && len(headers) == 0 {
		return nil, faults
	}
	return &Rules{redirects, headers}, faults
}

// Redirect returns what the first rule of _redirects asks for that matches a request. path
// is decoded and clean, from the website's root; query is the URL's, encoded.
func (r *Rules) Redirect(host, path, query string) (Redirect, bool) {
	if r == nil {
		return Redirect{}, false
	}
	return r.redirects.find(host, path, query)
}

// Apply sets and removes headers of the answer to a request.
func (r *Rules) Apply(h http.Header, host, path string) {
	if r != nil && len(r.headers) > 0 {
		apply(r.headers, h, host, path)
	}
}

// maxFaults bounds how much is said of one file.
const maxFaults = 50

// lines calls do with each line that has something to say, and gathers its faults.
func lines(file string, text []byte, most int, do func(line string) error) []error {
	var faults []error
	fault := func(n int, err error) {
		switch {
		case len(faults) < maxFaults:
			faults = append(faults, fmt.Errorf("%s:%d: %w", file, n, err))
		case len(faults) == maxFaults:
			faults = append(faults, fmt.Errorf("%s:%d: and more", file, n))
		}
	}
	if len(text) > MaxSize {
		return []error{fmt.Errorf("%s: more than %d bytes", file, MaxSize)}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	n := 0
	for line := range bytes.Lines(text) {
		n++
		s := strings.TrimSpace(string(line))
		switch {
		case s == "" || s[0] == '#':
		case !utf8.ValidString(s):
			fault(n, errors.New("it is not UTF-8"))
		case utf8.RuneCountInString(s) > most:
			fault(n, fmt.Errorf("the line has more than %d characters", most))
		default:
			if err := do(s); err != nil {
				fault(n, err)
			}
		}
	}
	return faults
}
