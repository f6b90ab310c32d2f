package environment_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
)

func variable(kind environment.Kind, branch taubyte.Branch, function, name, value string) environment.Variable {
	return environment.Variable{Kind: kind, Project: "QmShop", Branch: branch, Function: function, Name: name, Value: []byte(value)}
}

func TestTheMostSpecificCounts(t *testing.T) {
	all := []environment.Variable{
		variable(environment.Plain, "", "", "A", "project"),
		variable(environment.Plain, "main", "", "A", "branch"),
		variable(environment.Plain, "", "api/get", "A", "function"),
		variable(environment.Plain, "main", "api/get", "A", "function and branch"),
		variable(environment.Plain, "", "", "B", "plain"),
		variable(environment.Secret, "", "", "B", "secret"),
		variable(environment.Secret, "dev", "", "C", "of dev"),
	}
	see := func(b taubyte.Branch, function string) string {
		var out []string
		for _, v := range environment.Resolve(all, b, function) {
			out = append(out, v.Name+"="+string(v.Value))
		}
		return strings.Join(out, ", ")
	}
	require.Equal(t, "A=function and branch, B=secret", see("main", "api/get"))
	require.Equal(t, "A=function, B=secret, C=of dev", see("dev", environment.FunctionName("api", "get")))
	require.Equal(t, "A=branch, B=secret", see("main", "get"))
	require.Equal(t, "A=project, B=secret", see("other", ""))
}

func TestWhatCantBeSet(t *testing.T) {
	good := variable(environment.Secret, "feature/x", "api/get", "TOKEN_1", "x")
	require.NoError(t, good.Check())
	for _, change := range []func(*environment.Variable){
		func(v *environment.Variable) { v.Name = "1A" },
		func(v *environment.Variable) { v.Name = "A-B" },
		func(v *environment.Variable) { v.Name = "A=B" },
		func(v *environment.Variable) { v.Name = "" },
		func(v *environment.Variable) { v.Name = strings.Repeat("A", environment.MaxName+1) },
		func(v *environment.Variable) { v.Value = []byte("a\x00b") },
		func(v *environment.Variable) { v.Kind = "other" },
		func(v *environment.Variable) { v.Project = "" },
		func(v *environment.Variable) { v.Project = "a/b" },
		func(v *environment.Variable) { v.Function = "a/b/c" },
		func(v *environment.Variable) { v.Function = "/b" },
		func(v *environment.Variable) { v.Branch = "a\nb" },
	} {
		bad := good
		change(&bad)
		require.ErrorIs(t, bad.Check(), taubyte.ErrInvalid, "%+v", bad)
	}
	large := good
	large.Value = make([]byte, environment.MaxValue+1)
	require.ErrorIs(t, large.Check(), taubyte.ErrTooLarge)
}

func FuzzKey(f *testing.F) {
	f.Add("projects/QmShop/secret/*/*/TOKEN")
	f.Add(variable(environment.Plain, "feature/x *", "api/get", "A", "").Key())
	f.Fuzz(func(t *testing.T, key string) {
		v, err := environment.ParseKey(key)
		if err != nil {
			return
		}
		require.Equal(t, key, v.Key())
		require.NoError(t, v.Check())
	})
}

func TestKeysComeBack(t *testing.T) {
	for _, v := range []environment.Variable{
		{Kind: environment.Plain, Project: "QmShop", Name: "A"},
		{Kind: environment.Secret, Project: "QmShop", Branch: "feature/*", Function: "a b/c*", Name: "A"},
	} {
		again, err := environment.ParseKey(v.Key())
		require.NoError(t, err)
		require.Equal(t, v, again)
	}
}
