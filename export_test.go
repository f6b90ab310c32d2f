package taubyte

// OpenDatastoreOn is OpenDatastore upon a file system of the test's.
var OpenDatastoreOn = openDatastore

// ParseSeal reads what a store's seal says.
var ParseSeal = parseSeal
