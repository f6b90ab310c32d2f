package tns

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// large is the deployment of a project with that many functions.
func large(functions int) *Deployment {
	c := &config.Project{ID: "p"}
	for i := range functions {
		c.Functions = append(c.Functions, config.Function{
			Common: config.Common{ID: taubyte.ResourceID(fmt.Sprintf("f%d", i)), Name: "f"}, Type: "http", Method: "GET",
			Domains: []taubyte.ResourceID{"d"}, Paths: []string{fmt.Sprintf("/path/%d", i)}, Source: ".",
		})
	}
	return &Deployment{Project: "p", Parts: map[taubyte.RepositoryID]Part{"x": {Config: c}}}
}

// What this package writes takes the short way.
func TestDecodingDoesNotGiveUp(t *testing.T) {
	d := large(3)
	raw, err := json.Marshal(Change{Deployment: d, Conflicts: []Claim{{HostClaim: HostClaim{Host: "h"}}}})
	require.NoError(t, err)
	r := reader{raw: raw}
	v := new(Change)
	require.NoError(t, shapes()[reflect.TypeFor[Change]()](&r, reflect.ValueOf(v).Elem()))
	require.Equal(t, d, v.Deployment)
}

// BenchmarkDecode reads a project of a hundred functions, beside encoding/json.
func BenchmarkDecode(b *testing.B) {
	raw, err := json.Marshal(large(100))
	require.NoError(b, err)
	b.Run("tns", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = decode(raw)
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			_ = json.Unmarshal(raw, new(Deployment))
		}
	})
}
