package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/dev"
	"github.com/taubyte/taubyte/examples/chat"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
)

const host = "chat.localhost"

// A user has the page open.
type user struct {
	*testing.T
	ws  *websocket.Conn
	got chan string
}

func get(t *testing.T, client *http.Client, c *chat.Cloud, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Control.URL()+path, nil)
	require.NoError(t, err)
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// enter does what the page does: it asks where the socket is, and opens it.
func enter(t *testing.T, client *http.Client, c *chat.Cloud) *user {
	t.Helper()
	status, path := get(t, client, c, "/socket")
	require.Equal(t, http.StatusOK, status, path)
	ws, _, err := websocket.Dial(t.Context(), strings.Replace(c.Control.URL(), "http", "ws", 1)+"/"+path, &websocket.DialOptions{
		Host: host, HTTPHeader: http.Header{"Origin": {"http://" + host}}, HTTPClient: &http.Client{Transport: client.Transport},
	})
	require.NoError(t, err)
	u := &user{T: t, ws: ws, got: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, text, err := ws.Read(context.Background())
			if err != nil {
				var closed websocket.CloseError
				errors.As(err, &closed)
				u.got <- fmt.Sprint("closed ", int(closed.Code))
				return
			}
			u.got <- string(text)
		}
	}()
	t.Cleanup(func() { _ = ws.CloseNow(); <-done })
	return u
}

func (u *user) next() string {
	u.Helper()
	select {
	case m := <-u.got:
		return m
	case <-time.After(30 * time.Second):
		require.FailNow(u, "nothing came")
		return ""
	}
}

func (u *user) say(text string) {
	u.Helper()
	require.NoError(u, u.ws.Write(u.Context(), websocket.MessageText, []byte(text)))
}

func stats(n *cloud.Node) substrate.MessageStats {
	st, err := n.Host.Local(substrate.Protocol).(*substrate.Service).Stats(context.Background())
	if err != nil {
		panic(err)
	}
	return st.Messages
}

func TestChatOnTwoNodes(t *testing.T) {
	testnet.CompilesGuests(t)
	testnet.CheckLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	c, err := chat.Open(ctx, dir, cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	t.Cleanup(client.CloseIdleConnections)

	project := filepath.Join(dir, "project")
	for _, part := range []string{"config", "libraries", "websites"} {
		require.NoError(t, os.CopyFS(filepath.Join(project, part), os.DirFS(part)))
	}
	folder, err := dev.Open(ctx, project, filepath.Join(dir, "state"), c.Control.Remote("chat"))
	require.NoError(t, err)
	require.NoError(t, c.Control.CreateRepository(ctx, "chat"))
	_, _, err = folder.Push(ctx)
	require.NoError(t, err)
	for status := 0; status != http.StatusOK; status, _ = get(t, client, c, "/socket") {
		// Compiling takes long under the race detector.
		require.NoError(t, ctx.Err(), "not served")
	}
	status, body := get(t, client, c, "/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `<script src="chat.js">`)

	// The gateway spreads users over both nodes.
	var users []*user
	testnet.Eventually(t, func() bool {
		users = append(users, enter(t, client, c))
		return stats(c.One).Sockets > 0 && stats(c.Two).Sockets > 0
	}, "all users on one node")
	// The nodes may still be about to hear of each other.
	hears := func(n *cloud.Node) int { return len(n.Host.PubSub().ListPeers("/taubyte/substrate/peers/1")) }
	testnet.Eventually(t, func() bool { return hears(c.One) == 1 && hears(c.Two) == 1 }, "the nodes are apart")

	// Everybody hears everybody else, and what the function says of it, once.
	for i, u := range users {
		name := fmt.Sprint("user ", i)
		u.say(name + ": good morning everybody")
		want := []string{name + ": good morning everybody", "count: " + name + " said 3 words"}
		for j, other := range users {
			if j == i {
				require.Equal(t, want[1], other.next())
			} else {
				// Two publishers, whose order nobody promises.
				require.ElementsMatch(t, want, []string{other.next(), other.next()})
			}
		}
	}
	require.Equal(t, uint64(len(users)), stats(c.One).Run+stats(c.Two).Run)

	// A node stops: its users are told, come back, and are on the other.
	require.NoError(t, c.Two.Close())
	var stay, back []*user
	for _, u := range users {
		select {
		case m := <-u.got:
			require.Equal(t, "closed 1012", m)
			back = append(back, enter(t, client, c))
		default:
			stay = append(stay, u)
		}
	}
	require.NotEmpty(t, stay)
	require.NotEmpty(t, back)
	back[0].say("back: hello")
	for _, u := range append(stay, back[1:]...) {
		require.ElementsMatch(t, []string{"back: hello", "count: back said 1 words"}, []string{u.next(), u.next()})
	}
}
