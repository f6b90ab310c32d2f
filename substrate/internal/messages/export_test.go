package messages

import "github.com/libp2p/go-libp2p/core/peer"

// Topic is where frames are told.
func (h *Hub) Topic() string { return string(h.Protocol) }

// Hear takes a frame as if gossip had brought it.
func (h *Hub) Hear(from peer.ID, raw []byte) error {
	f, err := decodeFrame(raw)
	if err == nil {
		h.gossip.heard <- heard{from, f}
	}
	return err
}

// Frames are those that the hub has told and still keeps.
func (h *Hub) Frames() [][]byte {
	return h.out.frames(h.out.epoch, 1, ^uint64(0))
}

// Forget drops a frame that the hub keeps.
func (h *Hub) Forget() {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.epoch++
}

// FrameOfText makes a frame of one message that is text.
func FrameOfText(epoch, sequence uint64, id Branch, channel string, data string) []byte {
	m := told{branch: id, channel: channel, data: []byte(data), text: true}
	return m.append(beginFrame(nil, epoch, sequence))
}

// Frame makes a frame of one message.
func Frame(epoch, sequence uint64, id Branch, channel string, data string) []byte {
	m := told{branch: id, channel: channel, data: []byte(data)}
	return m.append(beginFrame(nil, epoch, sequence))
}

// Decode decodes a frame and encodes what it found.
func Decode(raw []byte) ([]byte, error) {
	f, err := decodeFrame(raw)
	if err != nil {
		return nil, err
	}
	b := beginFrame(nil, f.epoch, f.sequence)
	for i := range f.messages {
		b = f.messages[i].append(b)
	}
	return b, nil
}

// Deliver encodes a message for a function, Delivered decodes it.
func Deliver(to Function, m Message) []byte { return (&delivery{to, m}).encode() }
func Delivered(raw []byte) (Function, Message, error) {
	d, err := decodeDelivery(raw)
	if err != nil {
		return Function{}, Message{}, err
	}
	return d.to, d.message, nil
}

// Choose orders the nodes for a message.
func Choose(nodes []peer.ID, self peer.ID, message uint64, to Function) []peer.ID {
	return choose(nodes, self, message, to)
}
