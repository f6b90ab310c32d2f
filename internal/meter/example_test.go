package meter_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/internal/meter"
)

// A guest that never ends, and never calls its host, meets its deadline.
func Example() {
	endless := exported(void2void, fn("\x00", "\x03\x40\x0c\x00\x0b")) // (func (loop (br 0)))
	metered, err := meter.Instrument(endless, meter.Limits{})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	runtime := wazero.NewRuntime(ctx)
	defer runtime.Close(ctx)
	if _, err := meter.Host(ctx, runtime, meter.Deadline(meter.Slice)); err != nil {
		log.Fatal(err)
	}
	guest, err := runtime.Instantiate(ctx, metered)
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = guest.ExportedFunction("f0").Call(ctx)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}
