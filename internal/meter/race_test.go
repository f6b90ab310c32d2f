//go:build race

package meter_test

// raceDetector makes the engine's compiler ten times slower.
const raceDetector = true
