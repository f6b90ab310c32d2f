package site

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
)

// list gives the items of a header that is a list: of all its lines, split at
// commas, without the space around them and without empty ones (RFC 9110, 5.3 and
// 5.6.1). Commas within quotes split nothing.
func list(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for line != "" {
				end, quoted := 0, false
				for ; end < len(line) && (quoted || line[end] != ','); end++ {
					switch {
					case line[end] == '"':
						quoted = !quoted
					case quoted && line[end] == '\\':
						end++
					}
				}
				end = min(end, len(line))
				item := strings.TrimSpace(line[:end])
				line = line[min(end+1, len(line)):]
				if item != "" && !yield(item) {
					return
				}
			}
		}
	}
}

// weighted is an item's name in lower case and its weight, 1 where it has none.
// One that can't be read weighs nothing.
func weighted(item string) (name string, weight float64) {
	name, params, _ := strings.Cut(item, ";")
	name, weight = strings.ToLower(strings.TrimSpace(name)), 1
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		key, value, _ := strings.Cut(param, "=")
		if !strings.EqualFold(strings.TrimSpace(key), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			q = 0
		}
		weight = q
	}
	return name, weight
}

// An encoding is a way in which a file may be stored beside itself.
type encoding struct{ name, alias, suffix string }

// encodings, the best first.
var encodings = [...]encoding{{"br", "", ".br"}, {"zstd", "", ".zst"}, {"gzip", "x-gzip", ".gz"}}

// weights are what Accept-Encoding gives to each of encodings, and to a file as it
// is: of those with the highest weight an encoding goes first (RFC 9110, 12.5.3).
func weights(lines []string) (of [len(encodings)]float64, identity float64) {
	const unsaid = -1
	for i := range of {
		of[i] = unsaid
	}
	identity, rest := float64(unsaid), float64(unsaid)
	for item := range list(lines) {
		name, q := weighted(item)
		switch name {
		case "identity":
			identity = q
		case "*":
			rest = q
		}
		for i, e := range encodings {
			if name == e.name || name == e.alias {
				of[i] = q
			}
		}
	}
	for i := range of {
		if of[i] == unsaid {
			of[i] = rest
		}
	}
	if identity == unsaid {
		identity = rest // what nobody has named is acceptable, and comes last
	}
	return of, identity
}

// navigation says whether a browser is on its way to a page, rather than loading
// a part of one, and whether it says so itself. Others are taken for browsers by
// their wish for HTML.
func navigation(r *http.Request) (yes, said bool) {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate", true
	}
	for item := range list(r.Header["Accept"]) {
		if name, q := weighted(item); q > 0 && (name == "text/html" || name == "application/xhtml+xml") {
			return true, false
		}
	}
	return false, false
}
