//go:build race

package meter_test

// raceDetector makes the engine's compiler ten times slower: large modules that
// only the compiler sees are left to the tests without it.
const raceDetector = true
