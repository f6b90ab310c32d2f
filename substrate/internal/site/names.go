package site

import (
	"path"
	"strconv"
	"strings"
)

// types are those of the web, the same on every machine. Others are found out
// from the content.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".json": "application/json", ".map": "application/json", ".jsonld": "application/ld+json",
	".webmanifest": "application/manifest+json", ".wasm": "application/wasm",
	".txt": "text/plain; charset=utf-8", ".md": "text/markdown; charset=utf-8", ".csv": "text/csv; charset=utf-8",
	".xml": "application/xml", ".rss": "application/rss+xml", ".atom": "application/atom+xml",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
	".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon", ".bmp": "image/bmp",
	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
	".mp4": "video/mp4", ".webm": "video/webm", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".wav": "audio/wav", ".flac": "audio/flac",
	".pdf": "application/pdf", ".zip": "application/zip", ".gz": "application/gzip", ".zst": "application/zstd", ".br": "application/octet-stream",
}

// contentType is empty where the name does not tell.
func contentType(name string) string { return types[strings.ToLower(path.Ext(name))] }

// compressible says whether files of a type are worth an encoding.
func compressible(kind string) bool {
	return strings.HasPrefix(kind, "text/") || strings.HasPrefix(kind, "font/") ||
		strings.Contains(kind, "json") || strings.Contains(kind, "xml") || kind == "application/wasm"
}

// quality is the weight that an Accept-Encoding header gives to an encoding.
func quality(accept, encoding string) float64 {
	any := 0.0
	for accept != "" {
		var item string
		item, accept, _ = strings.Cut(accept, ",")
		name, params, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name != encoding && name != "*" {
			continue
		}
		q := 1.0
		if key, value, ok := strings.Cut(strings.TrimSpace(params), "="); ok && strings.EqualFold(strings.TrimSpace(key), "q") {
			var err error
			if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil || q < 0 || q > 1 {
				q = 0
			}
		}
		if name == encoding {
			return q
		}
		any = q
	}
	return any
}

// hashed says whether a file's name has a hash of its content in it, as the
// builders of web pages make them: then it never changes. To miss one costs a
// user a 304; to see one where there is none would keep a stale file for a year.
func hashed(name string) bool {
	dir, file := path.Split(name)
	for stem := strings.TrimSuffix(file, path.Ext(file)); stem != ""; {
		i := strings.LastIndexAny(stem, ".-")
		if i <= 0 {
			return false
		}
		token := stem[i+1:]
		if hexadecimal(token) || mixed(token) && built(dir) {
			return true
		}
		if stem[i] != '.' { // main.3f2a9c01.chunk.js, but not a-b-c.js
			return false
		}
		stem = stem[:i]
	}
	return false
}

// hexadecimal: a word is none, and neither is a date.
func hexadecimal(s string) bool {
	if len(s) < 8 || len(s) > 64 {
		return false
	}
	digits, letters := 0, 0
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f':
			letters++
		default:
			return false
		}
	}
	return digits > 0 && letters > 0
}

// mixed: eight or more characters in both cases, or capitals and digits.
func mixed(s string) bool {
	if len(s) < 8 || len(s) > 24 {
		return false
	}
	upper, lower, digits := 0, 0, 0
	for _, c := range []byte(s) {
		switch {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= '0' && c <= '9':
			digits++
		case c == '_':
		default:
			return false
		}
	}
	return upper > 0 && digits > 0 || upper > 1 && lower > 0
}

// built says whether a folder is one that builders put their output into.
func built(dir string) bool {
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		switch part {
		case "assets", "static", "_next", "_nuxt", "_app", "_astro", "chunks", "immutable":
			return true
		}
	}
	return false
}
