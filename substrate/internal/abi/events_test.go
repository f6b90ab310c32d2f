package abi_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate/internal/abi"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// published is what a guest has published. Its channels are "in" and "out/1".
type published struct {
	data  string
	text  bool
	depth int
}

func (p *published) Publish(_ *abi.Self, channel string, data []byte, text bool, depth int) error {
	if channel != "out/1" {
		return errors.New("no such channel")
	}
	p.data, p.text, p.depth = string(data), text, depth
	return nil
}

func (p *published) Channel(_ *abi.Self, channel string) bool {
	return channel == "in" || channel == "out/1"
}

func (p *published) SocketPath(_ *abi.Self, channel string) (string, bool) {
	return "ws-hash/" + channel, p.Channel(nil, channel)
}

// reports is a guest that makes calls, each with the event, a pointer of its own and
// what else it takes, and publishes 512 bytes of its memory: the results from 0 on, and
// what call n has written from 64*(n+1) on.
func reports(calls ...call) []byte {
	m := New(1)
	m.Data(1024, "out/1")
	m.Data(1100, "none")
	var code [][]byte
	publish := m.SDK("publishToChannel", "iiii:i")
	for i, c := range calls {
		f := m.SDK(c.name, c.typ)
		code = append(code, I32(int32(4*i)))
		for _, a := range c.args {
			switch a := a.(type) {
			case event:
				code = append(code, Get(0))
			case int:
				code = append(code, I32(int32(a)))
			}
		}
		code = append(code, Call(f), Store)
	}
	code = append(code, I32(1024), I32(5), I32(0), I32(512), Call(publish), Drop)
	m.Func("f", "i:", "", code...)
	return m.Bytes()
}

func results4(data string, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32([]byte(data[4*i:]))
	}
	return out
}

func TestMessageEvent(t *testing.T) {
	p := &published{}
	h := newHost(t, func(s *abi.Services) { s.Messages = p })
	f := h.function(reports(
		do("getMessageChannelSize", "ii:i", event{}, 64), do("getMessageChannel", "ii:i", event{}, 128),
		do("getMessageDataSize", "ii:i", event{}, 192), do("getMessageData", "ii:i", event{}, 256),
		// Questions about what it is not, and about what is not there.
		do("getP2PEventDataSize", "ii:i", event{}, 320), do("getHttpEventMethodSize", "ii:i", event{}, 320),
		do("getMessageDataSize", "ii:i", 77, 320), do("getMessageData", "ii:i", event{}, 65535),
		do("setSubscriptionChannel", "ii:i", 1024, 5), do("setSubscriptionChannel", "ii:i", 1100, 4),
		do("publishToChannel", "iiii:i", 1100, 4, 0, 1), do("publishToChannel", "iiii:i", 1024, 5, 65000, 65000),
		do("getWebSocketURLSize", "iii:i", 1024, 5, 320), do("getWebSocketURL", "iii:i", 1024, 5, 384),
		do("getWebSocketURLSize", "iii:i", 1100, 4, 324),
	))
	for _, text := range []string{"first", "", "last"} {
		require.NoError(t, f.Run(t.Context(), func(g *abi.Guest) uint32 { return g.BeginMessage("in/and/out", text, 5) }))
		require.Equal(t, 5, p.depth)
		want := []uint32{0, 0, 0, 0, 4, 4, 1, 3, 0, 20, 21, 3, 0, 0, 38}
		if text == "" {
			want[7] = 0 // nothing may be anywhere
		}
		require.Equal(t, want, results4(p.data, 15))
		require.Equal(t, uint32(10), results4(p.data[64:], 1)[0])
		require.Equal(t, "in/and/out", p.data[128:138])
		require.Equal(t, uint32(len(text)), results4(p.data[192:], 1)[0])
		require.Equal(t, text, p.data[256:256+len(text)])
		require.Equal(t, uint32(13), results4(p.data[320:], 1)[0])
		require.Equal(t, "ws-hash/out/1", p.data[384:397])
	}
}

// Text is published as text, and what is no text is not.
func TestTextMessage(t *testing.T) {
	for _, c := range []struct {
		name, data string
		text       bool
		errno      uint32
	}{
		{"publishToChannel", "grüße", false, 0}, {"publishTextToChannel", "grüße", true, 0},
		{"publishToChannel", "\xff\xfe", false, 0}, {"publishTextToChannel", "\xff\xfe", false, 21},
	} {
		p := &published{}
		h := newHost(t, func(s *abi.Services) { s.Messages = p })
		s := newScript()
		s.m.Data(0, "out/1"+c.data)
		_, e := s.run(h, httptest.NewRequest("GET", "/", nil), 0, 0, do(c.name, "iiii:i", 0, 5, 5, len(c.data)))
		require.Equal(t, []uint32{c.errno}, e, c)
		require.Equal(t, c.text, p.text, c)
		if c.errno == 0 {
			require.Equal(t, c.data, p.data, c)
		}
	}
}

// sent is what a guest has sent. Its protocol is "out/1".
type sent struct {
	published
	to    peer.ID
	depth int
}

func (s *sent) Protocol(_ *abi.Self, protocol string) (string, bool) {
	return "hash" + protocol, protocol == "out/1"
}

func (s *sent) Send(_ context.Context, _ *abi.Self, c abi.Command, to peer.ID, depth int) (abi.Reply, error) {
	s.to, s.depth = to, depth
	switch c.Name {
	case "none":
		return abi.Reply{Data: []byte("reply to " + c.Data), Set: true}, nil
	case "":
		return abi.Reply{}, nil
	}
	return abi.Reply{}, errors.New("lost")
}

func (s *sent) Peers(context.Context, int) []peer.ID { return []peer.ID{peerID} }

var peerID, _ = peer.Decode("12D3KooWEbuNQNAscZK2bN6Vda8anQQ4Qk1hPRBFgMcjiRU4bTmq")

func TestCommandEvent(t *testing.T) {
	s := &sent{}
	h := newHost(t, func(v *abi.Services) { v.Messages, v.Commands = s, s })
	f := h.function(reports(
		do("getP2PEventFromSize", "ii:i", event{}, 64), do("getP2PEventFrom", "ii:i", event{}, 448),
		do("getP2PEventProtocol", "ii:i", event{}, 128), do("getP2PEventCommand", "ii:i", event{}, 160),
		do("getP2PEventData", "ii:i", event{}, 192), do("getMessageDataSize", "ii:i", event{}, 64),
		do("writeP2PResponse", "iii:i", event{}, 1024, 5), do("writeP2PResponse", "iii:i", event{}, 1100, 4),
		do("newCommand", "iiiii:i", 1024, 5, 1100, 4, 256), do("newCommand", "iiiii:i", 1100, 4, 1100, 4, 256),
		do("sendCommandTo", "iiiii:i", 0, 448, 1024, 3, 260), do("readCommandResponse", "iii:i", 0, 264, 12),
		do("readCommandResponse", "iii:i", 0, 264, 11), do("sendCommand", "iiii:i", 9, 0, 0, 300),
		do("sendCommandTo", "iiiii:i", 0, 1024, 0, 0, 300),
		do("listenToProtocol", "iiii:i", 1024, 5, 320, 9),
	))
	var reply abi.Reply
	require.NoError(t, f.Run(t.Context(), func(g *abi.Guest) uint32 {
		return g.BeginCommand(abi.Command{Protocol: "protocol", Name: "command", Data: "data"}, peerID, peerID, 2, &reply)
	}))
	require.Equal(t, abi.Reply{Data: []byte("none"), Set: true}, reply, "the last one counts")
	require.Equal(t, []uint32{0, 0, 0, 0, 0, 4, 0, 0, 0, 45, 0, 0, 89, 44, 43, 0}, results4(s.data, 16))
	from := peer.ToCid(peerID).KeyString()
	require.Equal(t, uint32(len(from)), results4(s.data[64:], 1)[0])
	require.Equal(t, from, s.data[448:448+len(from)])
	require.Equal(t, "protocol", s.data[128:136])
	require.Equal(t, "command", s.data[160:167])
	require.Equal(t, "data", s.data[192:196])
	require.Equal(t, "reply to out", s.data[264:276])
	require.Equal(t, "hashout/1", s.data[320:329])
	require.Equal(t, peerID, s.to)
	require.Equal(t, 2, s.depth)
}
