package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	golog "github.com/ipfs/go-log/v2"

	"github.com/taubyte/taubyte"
)

// logFlag declares --log.
func logFlag(fs *flag.FlagSet, level string) *string {
	return fs.String("log", level, "what is logged to standard error: debug, info, warn, error or none")
}

// logger makes the logger that a node gets. It also quiets the loggers of the
// libraries below, which speak to their developers.
func logger(w io.Writer, level string) (*slog.Logger, error) {
	golog.SetAllLoggers(golog.LevelFatal)
	if level == "none" {
		return slog.New(slog.DiscardHandler), nil
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return nil, fmt.Errorf("%w log level %q", taubyte.ErrInvalid, level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}
