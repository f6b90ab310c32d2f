//go:build race

package meter_test

// raceDetector makes the engine's compiler ten times slower: large modules are
// interpreted with it.
const raceDetector = true
