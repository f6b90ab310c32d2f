package monkey

import "time"

// What has no way in from outside but a whole build, and has to stand any input.
var (
	ExportedFunctions = exportedFunctions
	ParseWorkflow     = func(text []byte) error { _, err := parseWorkflow(text); return err }
	Unpack            = unpack
)

// WithPatience sets how long a worker waits for other nodes.
func WithPatience(service, publish time.Duration) Option {
	return func(o *options) { o.serviceTimeout, o.publishTimeout = service, publish }
}
