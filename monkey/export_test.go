package monkey

// What has no way in from outside but a whole build, and has to stand any input.
var (
	ExportedFunctions = exportedFunctions
	ParseWorkflow     = func(text []byte) error { _, err := parseWorkflow(text); return err }
	Unpack            = unpack
)
