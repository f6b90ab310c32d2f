package crdt

import (
	"context"
)

// leastHistory is how many bytes of history are kept in a small store.
const leastHistory = 1 << 20

// prune drops the oldest blocks of the log when it has grown too long. The
// state does not need them; they are for members that miss them. So blocks go
// that every connected member has; or, when the log is four times too long,
// those that a slow one misses too: it gets a snapshot.
func (w *writer) prune(ctx context.Context) error {
	most := uint64(max(w.s.opts.history, 0))
	if most == 0 {
		most = max(leastHistory, w.st.meta.bytes/2)
	}
	if w.st.meta.logBytes <= max(most, w.pruneAt) {
		return nil
	}
	seen, floor := w.s.st.vectors()
	to, known := w.s.talk.everywhere()
	if !known || w.st.meta.logBytes > 4*most {
		to = seen
	}
	gone := vector{}
	err := w.st.walk(ctx, floor, to, func(b *block) (bool, error) {
		w.st.dirty[blockKey(b.dot)] = nil
		w.st.meta.logBlocks--
		w.st.meta.logBytes -= min(w.st.meta.logBytes, uint64(len(b.raw)))
		gone[b.dot.writer] = b.dot.seq
		return w.st.meta.logBytes > most/2 && len(gone) < maxGroup*4, nil
	})
	if err != nil {
		w.st.drop()
		return err
	}
	if len(gone) > 0 {
		if err := w.st.flush(ctx, gone); err != nil {
			return err
		}
	}
	// Who could not be served is not tried again at every write.
	w.pruneAt = 0
	if w.st.meta.logBytes > most {
		w.pruneAt = w.st.meta.logBytes + most/8
	}
	return nil
}
