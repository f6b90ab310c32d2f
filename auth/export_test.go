package auth

// ParseToken is for fuzzing.
func ParseToken(text string) (any, error) { return parseToken(text) }
