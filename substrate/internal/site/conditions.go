package site

import (
	"net/http"
	"strconv"
	"strings"
)

// conditional says whether a request has a condition. Those about dates are none:
// a file has no date, and they are ignored then (RFC 9110, 13.1.3 and 13.1.4).
func conditional(r *http.Request) bool {
	return r.Header["If-Match"] != nil || r.Header["If-None-Match"] != nil
}

// precondition is the status that a request's conditions lead to, 200 where it is
// served (RFC 9110, 13.2.2).
func precondition(r *http.Request, etag string) int {
	if lines := r.Header["If-Match"]; lines != nil && !matches(lines, etag, false) {
		return http.StatusPreconditionFailed
	}
	if lines := r.Header["If-None-Match"]; lines != nil && matches(lines, etag, true) {
		return http.StatusNotModified
	}
	return http.StatusOK
}

// matches says whether a list of tags has one, or is the star. A weak tag matches
// nothing where the comparison is to be strong.
func matches(lines []string, etag string, weak bool) bool {
	for item := range list(lines) {
		if tag, ok := strings.CutPrefix(item, "W/"); ok && weak {
			item = tag
		}
		if item == "*" || item == etag {
			return true
		}
	}
	return false
}

// maxRanges bounds the parts of one answer: who asks for more gets the whole.
const maxRanges = 64

// ranges reads which parts of a file are asked for: those that it has, as a header
// that net/http reads alike. Nothing is the whole file: where the header is none
// that a server has to follow, or If-Range names another version (RFC 9110, 13.1.5
// and 14.2). It is not ok where the file has none of the parts.
func ranges(r *http.Request, etag string, size int64) (parts string, ok bool) {
	lines := r.Header["Range"]
	if len(lines) != 1 {
		return "", true
	}
	unit, set, found := strings.Cut(lines[0], "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return "", true
	}
	if also := r.Header["If-Range"]; also != nil && (len(also) != 1 || strings.TrimSpace(also[0]) != etag) {
		return "", true
	}
	if size == 0 {
		return "", true // a part of nothing has no positions to be named by
	}
	var b strings.Builder
	b.WriteString("bytes=")
	n, total, any := 0, int64(0), false
	for item := range strings.SplitSeq(set, ",") {
		item = strings.Trim(item, " \t")
		if item == "" {
			continue
		}
		first, last, ok := strings.Cut(item, "-")
		if !ok {
			return "", true
		}
		any = true
		from, to, have, ok := part(first, last, size)
		if !ok {
			return "", true
		}
		if !have {
			continue
		}
		if n++; n > maxRanges {
			return "", true
		}
		if n > 1 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(from, 10))
		b.WriteByte('-')
		b.WriteString(strconv.FormatInt(to, 10))
		total += to - from + 1
	}
	switch {
	case !any, n > 1 && total > size: // or parts that overlap
		return "", true
	case n == 0:
		return "", false
	}
	return b.String(), true
}

// part is one range of a file, both ends counted in: not ok where it can't be read,
// and not there where the file has nothing of it.
func part(first, last string, size int64) (from, to int64, have, ok bool) {
	to, ok1 := position(last)
	if first == "" { // the last bytes
		if !ok1 {
			return 0, 0, false, false
		}
		return max(size-to, 0), size - 1, to > 0, true
	}
	from, ok = position(first)
	if last == "" {
		to, ok1 = size-1, true
		return from, to, from < size, ok
	}
	if !ok || !ok1 || to < from {
		return 0, 0, false, false
	}
	return from, min(to, size-1), from < size, true
}

// position reads digits, and what is beyond all files as just that.
func position(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}

// ranged is a request for nothing but parts of a file.
func ranged(parts string) *http.Request {
	return &http.Request{Method: http.MethodGet, Header: http.Header{"Range": {parts}}}
}
