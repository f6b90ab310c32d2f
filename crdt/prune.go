package crdt

import (
	"context"
	"errors"
)

// leastHistory is how many bytes of history are kept in a small store.
const leastHistory = 1 << 20

// prune drops the oldest blocks of the log when it has grown too long. The
// state does not need them; they are for members that miss them. So blocks go
// that every connected member has; or, when the log is four times too long,
// those that a slow one misses too: it gets a snapshot.
func (w *writer) prune(ctx context.Context) error {
	most := w.history
	if most == 0 {
		most = max(leastHistory, w.st.meta.bytes/2)
	}
	if w.st.meta.logBytes <= max(most, w.pruneAt) {
		return nil
	}
	seen, floor := w.st.vectors()
	to, known := w.net.everywhere()
	if !known || w.st.meta.logBytes > 4*most {
		to = seen
	}
	gone := vector{}
	err := w.st.walk(ctx, floor, to, func(b *block) (bool, error) {
		w.st.dirty[blockKey(b.dot)] = nil
		w.st.meta.logBlocks--
		w.st.meta.logBytes -= min(w.st.meta.logBytes, uint64(len(b.raw)))
		gone[b.dot.writer] = b.dot.seq
		return w.st.meta.logBytes > most/2, nil
	})
	if errors.Is(err, errLog) {
		w.log.Warn("history damaged, all of it is dropped", "err", err)
		gone, err = seen, nil
		for id, last := range seen {
			for n := floor[id] + 1; n <= last; n++ {
				w.st.dirty[blockKey(dot{id, n})] = nil
			}
		}
		w.st.meta.logBlocks, w.st.meta.logBytes = 0, 0
	}
	if err == nil && len(gone) > 0 {
		err = w.st.flush(ctx, gone)
	}
	if err != nil {
		return w.undo(ctx, err)
	}
	// Who could not be served is not tried again at every write.
	w.pruneAt = 0
	if w.st.meta.logBytes > most {
		w.pruneAt = w.st.meta.logBytes + most/8
	}
	return nil
}
