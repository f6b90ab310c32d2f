// Package log writes messages to the function's log at a level. What is written to
// standard output and standard error is there as well, line by line, at the level info.
//
//	log.Warn("no address for user " + id)
//
// The log takes some lines a second of a function, and of each message the first 4 KiB. It
// has secrets replaced by "[secret]".
package log

import (
	"unsafe"

	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// The levels, with the numbers that log/slog has for them.
const (
	LevelDebug = -4
	LevelInfo  = 0
	LevelWarn  = 4
	LevelError = 8
)

// Log writes a message at a level: one that is between two counts as the lower.
func Log(level int, message string) {
	sdk.LogAtLevel(int32(level), unsafe.StringData(message), uint32(len(message)))
}

// Debug is Log at LevelDebug.
func Debug(message string) { Log(LevelDebug, message) }

// Info is Log at LevelInfo.
func Info(message string) { Log(LevelInfo, message) }

// Warn is Log at LevelWarn.
func Warn(message string) { Log(LevelWarn, message) }

// Error is Log at LevelError.
func Error(message string) { Log(LevelError, message) }
