package wire

import "strings"

// Socket takes the path of a WebSocket apart: "/ws-<hash>/<channel>", where hash is
// the base58 of a sha2-256 multihash, and the channel may have slashes of its own.
func Socket(path string) (hash, channel string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/ws-")
	if !ok {
		return "", "", false
	}
	hash, channel, ok = strings.Cut(rest, "/")
	if !ok || channel == "" || len(hash) != 46 || hash[:2] != "Qm" {
		return "", "", false
	}
	for _, c := range []byte(hash) {
		if !strings.ContainsRune("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", rune(c)) {
			return "", "", false
		}
	}
	return hash, channel, true
}
