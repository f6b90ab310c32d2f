package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

func TestAChallengeIsAnsweredForItsHost(t *testing.T) {
	net := testnet.New(t)
	node := net.Node()
	registry, err := tns.New(t.Context(), node, node.Store, tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	g, err := gateway.New(t.Context(), node, node.Store, gateway.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	get := func(method, host, path string) (int, string) {
		r := httptest.NewRequest(method, "http://"+host+path, nil)
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ"
	c := auth.Challenge{Host: "shop.example", Token: token, Authorization: token + ".thumb"}
	for _, bad := range []auth.Challenge{
		{}, {Host: "Shop.example", Token: token, Authorization: token + ".x"}, {Host: "shop.example", Token: "../../../../etc/pass", Authorization: "../../../../etc/pass.x"},
		{Host: "shop.example", Token: token, Authorization: "<script>"}, {Host: "shop.example", Token: token, Authorization: token + "." + strings.Repeat("x", 600)},
	} {
		require.ErrorIs(t, g.PresentChallenge(t.Context(), bad), taubyte.ErrInvalid)
	}
	require.NoError(t, g.PresentChallenge(t.Context(), c))
	for _, host := range []string{"shop.example", "SHOP.example:80", "shop.example."} {
		code, body := get(http.MethodGet, host, "/.well-known/acme-challenge/"+token)
		require.Equal(t, http.StatusOK, code, host)
		require.Equal(t, c.Authorization, body)
	}
	for _, other := range [][3]string{
		{http.MethodGet, "other.example", token}, {http.MethodGet, "shop.example", token + "x"}, {http.MethodPost, "shop.example", token},
	} {
		code, _ := get(other[0], other[1], "/.well-known/acme-challenge/"+other[2])
		require.Equal(t, http.StatusNotFound, code, "%v", other)
	}
	for what, ctx := range testnet.Outsiders(t.Context(), "shop") {
		require.ErrorIs(t, g.PresentChallenge(ctx, c), taubyte.ErrForbidden, what)
		require.ErrorIs(t, g.WithdrawChallenge(ctx, token), taubyte.ErrForbidden, what)
	}
	code, _ := get(http.MethodGet, "shop.example", "/.well-known/acme-challenge/"+token)
	require.Equal(t, http.StatusOK, code, "nobody has withdrawn it")
	require.NoError(t, g.WithdrawChallenge(t.Context(), token))
	code, _ = get(http.MethodGet, "shop.example", "/.well-known/acme-challenge/"+token)
	require.Equal(t, http.StatusNotFound, code)
}
