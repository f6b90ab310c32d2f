package site

import (
	"path"
	"strings"

	"github.com/taubyte/taubyte/internal/mediatype"
	"github.com/taubyte/taubyte/internal/siterules"
)

// script and media say what an extension is: what builders of web pages make out of
// sources, and what they copy along. Pages, documents and data are neither: a hash in
// the name of a page is an identifier, and the page is edited under it.
func script(ext string) bool {
	switch ext {
	case ".js", ".mjs", ".cjs", ".css", ".map", ".wasm":
		return true
	}
	return false
}

func media(ext string) bool {
	kind, _, _ := strings.Cut(mediatype.Of(ext), "/")
	return kind == "image" || kind == "font" || kind == "audio" || kind == "video"
}

// hashed says whether a file's name has a hash of its content in it, as the
// builders of web pages make them: then it never changes. To miss one costs a
// user a 304; to see one where there is none would keep a stale file for a year.
// So scripts may have hashes that look like nothing else anywhere: in hexadecimal (webpack,
// Parcel) or in base 32 (esbuild). Those in base 64 (Vite, Rollup), and those of pictures,
// fonts and sounds, count in the folders of builders alone.
func hashed(name string) bool {
	dir, file := path.Split(name)
	if immutable(dir) {
		return true
	}
	ext := strings.ToLower(path.Ext(file))
	if !script(ext) && !media(ext) {
		return false
	}
	own, known := builderFolder(dir)
	stem := strings.TrimSuffix(file, path.Ext(file))
	if known && dashed(strings.TrimSuffix(stem, path.Ext(stem))) || known && dashed(stem) {
		return true
	}
	for stem != "" {
		i := strings.LastIndexAny(stem, ".-")
		token := stem[i+1:]
		if i <= 0 { // the whole name
			return own && (hexadecimal(token) || mixed(token))
		}
		if (hexadecimal(token) || base32(token)) && (script(ext) || known) && !unique(stem) || mixed(token) && known {
			return true
		}
		if stem[i] != '.' { // main.3f2a9c01.chunk.js, but not a-b-c.js
			return false
		}
		stem = stem[:i]
	}
	return false
}

// immutable says whether a folder has nothing but what its builder promises to name anew.
func immutable(dir string) bool {
	dir = "/" + dir
	return strings.Contains(dir, "/_next/static/") || strings.Contains(dir, "/_app/immutable/")
}

// hexadecimal says whether a token may be a hash in that form. A word is none, and
// neither is a date.
func hexadecimal(s string) bool {
	if len(s) < 8 || len(s) > 64 || word(s) {
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

// base32 says whether a token is a hash as esbuild makes them: eight capitals and digits from
// 2 to 7, which are mixed. A code like ABC12345 may be a name.
func base32(s string) bool {
	if len(s) != 8 || word(s) {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// dashed says whether a name ends with a hash in base 64 of eight characters, one of them
// a dash: index-B-x2_3dK. Words with dashes are none.
func dashed(stem string) bool {
	at := len(stem) - 9
	if at <= 0 || stem[at] != '-' {
		return false
	}
	hash := stem[at+1:]
	if !strings.Contains(hash, "-") || !mixed(strings.ReplaceAll(hash, "-", "_")) {
		return false
	}
	for part := range strings.SplitSeq(hash, "-") {
		if !word(part) {
			return true
		}
	}
	return false
}

// mixed says whether a token may be a hash in base 64 or 32: eight or more
// characters in both cases, or capitals and digits. A name in camel case is none, and
// neither is one with a number.
func mixed(s string) bool {
	if len(s) < 8 || len(s) > 24 || word(s) {
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

// word says whether a token reads like words, with a number behind them perhaps:
// deadbeef1, MainView, DSC00012. Capitals side by side are no camel case.
func word(s string) bool {
	s = strings.TrimRight(s, "0123456789_")
	lower, together := false, false
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= 'A' && c <= 'Z':
			together = together || i+1 == len(s) || s[i+1] < 'a'
		default:
			return false
		}
	}
	return !lower || !together
}

// hidden says whether a name is not for users: that of a file with rules, or of one that
// begins with a dot or is in such a folder, but for the site's .well-known (RFC 8615).
func hidden(name string) bool {
	if name == siterules.RedirectsFile || name == siterules.HeadersFile {
		return true
	}
	name = strings.TrimPrefix(name, ".well-known/")
	return strings.HasPrefix(name, ".") && name != ".well-known" || strings.Contains(name, "/.")
}

// unique says whether a name ends with a UUID.
func unique(stem string) bool {
	if len(stem) < 36 {
		return false
	}
	for i, c := range []byte(stem[len(stem)-36:]) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') {
			return false
		}
	}
	return true
}

// builderFolder says whether a folder is one that builders put their output into
// (known), and whether everything in it is theirs (own).
func builderFolder(dir string) (own, known bool) {
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		switch part {
		case "_next", "_nuxt", "_app", "_astro", "immutable":
			return true, true
		case "assets", "static", "chunks":
			known = true
		}
	}
	return false, known
}
