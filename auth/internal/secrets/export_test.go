package secrets

import "golang.org/x/crypto/chacha20poly1305"

// ParseKeys is for fuzzing: it parses a key of the store and writes it again.
func ParseKeys(key string) (again string, ok bool) {
	if k, err := parseValueKey(key); err == nil {
		return k.key().String(), true
	}
	if name, number, err := parseDeletedKey(key); err == nil {
		return deletedKey(name, number, key[len(key)-1:]).String(), false
	}
	return "", false
}

// OpenRaw is for fuzzing: it opens what may be no sealed value.
func OpenRaw(raw []byte) error {
	aead, err := chacha20poly1305.NewX(make([]byte, keySize))
	if err != nil {
		return err
	}
	_, _, err = openValue(aead, valueKey{name: "a", number: 1, id: "i", generation: "g"}, raw)
	return err
}

// SealRaw makes a sealed value for fuzzing.
func SealRaw(value []byte) []byte {
	aead, err := chacha20poly1305.NewX(make([]byte, keySize))
	if err != nil {
		panic(err)
	}
	raw, err := sealValue(aead, valueKey{name: "a", number: 1, id: "i", generation: "g"}, header{}, value)
	if err != nil {
		panic(err)
	}
	return raw
}
