package container

import "testing/fstest"

// Rewrite is what the engine is given of a Dockerfile.
func Rewrite(text []byte) ([]byte, error) {
	d, err := parseDockerfile(text)
	if err != nil {
		return nil, err
	}
	return d.text(fstest.MapFS{}, `"k"="v"`, func(string) (string, error) { return "sha256", nil })
}
