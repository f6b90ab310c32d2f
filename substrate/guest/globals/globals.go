// Package globals keeps single values that all instances of a project share.
//
//	globals.Project.SetUint64("visits", 1)
//	n, err := globals.Project.Uint64("visits")
//
// There is no adding: of two instances that read, add and write at once, one is
// lost. Values are stored as the public SDKs store them.
package globals

import (
	"encoding/binary"
	"math"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Scope is who shares a value.
type Scope uint32

// The scopes.
const (
	Project     Scope = 0
	Application Scope = 1
	Function    Scope = 2                      // one function of the project
	Both        Scope = Application | Function // one function of the application
)

func (s Scope) flags() (application, function uint32) { return uint32(s & 1), uint32(s >> 1 & 1) }

// Bytes gives a value as it is stored. One that was never set is
// errno.DatabaseKeyNotFound.
func (s Scope) Bytes(name string) ([]byte, error) {
	application, function := s.flags()
	return sdk.Fetch(
		func(n *uint32) errno.Errno { return sdk.GetGlobalValueSize(name, application, function, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetGlobalValue(name, application, function, b) })
}

// SetBytes stores a value as it is.
func (s Scope) SetBytes(name string, value []byte) error {
	application, function := s.flags()
	data, size := sdk.Data(value)
	return sdk.PutGlobalValue(name, application, function, data, size, size).Err()
}

// String gives a text.
func (s Scope) String(name string) (string, error) {
	b, err := s.Bytes("/string/" + name)
	return string(b), err
}

// SetString stores a text.
func (s Scope) SetString(name, value string) error {
	return s.SetBytes("/string/"+name, []byte(value))
}

// Uint32 gives a number.
func (s Scope) Uint32(name string) (uint32, error) {
	b, err := s.sized("/uint32/"+name, 4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// SetUint32 stores a number.
func (s Scope) SetUint32(name string, value uint32) error {
	return s.SetBytes("/uint32/"+name, binary.BigEndian.AppendUint32(nil, value))
}

// Uint64 gives a number.
func (s Scope) Uint64(name string) (uint64, error) {
	b, err := s.sized("/uint64/"+name, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// SetUint64 stores a number.
func (s Scope) SetUint64(name string, value uint64) error {
	return s.SetBytes("/uint64/"+name, binary.BigEndian.AppendUint64(nil, value))
}

// Float32 gives a number.
func (s Scope) Float32(name string) (float32, error) {
	b, err := s.sized("/float32/"+name, 8)
	if err != nil {
		return 0, err
	}
	return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
}

// SetFloat32 stores a number.
func (s Scope) SetFloat32(name string, value float32) error {
	return s.SetBytes("/float32/"+name, binary.BigEndian.AppendUint64(nil, uint64(math.Float32bits(value))<<32))
}

// Float64 gives a number.
func (s Scope) Float64(name string) (float64, error) {
	b, err := s.sized("/float64/"+name, 8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

// SetFloat64 stores a number.
func (s Scope) SetFloat64(name string, value float64) error {
	return s.SetBytes("/float64/"+name, binary.BigEndian.AppendUint64(nil, math.Float64bits(value)))
}

func (s Scope) sized(name string, size int) ([]byte, error) {
	b, err := s.Bytes(name)
	if err == nil && len(b) != size {
		return nil, errno.SizeMismatch
	}
	return b, err
}
