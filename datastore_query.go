package taubyte

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// Query implements Datastore. Its results are one consistent view. It is here because
// go-ds-pebble takes a table that can't be read for the end of the results.
func (d *diskStore) Query(_ context.Context, q query.Query) (_ query.Results, err error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave(&err)
	e := &entries{store: d, keysOnly: q.KeysOnly, sizes: q.ReturnsSizes}
	rest := q
	rest.Prefix = "" // is below
	if len(q.Orders) == 1 {
		switch q.Orders[0].(type) {
		case query.OrderByKey, *query.OrderByKey:
			rest.Orders = nil
		case query.OrderByKeyDescending, *query.OrderByKeyDescending:
			rest.Orders, e.reverse = nil, true
		}
	}
	if e.it, err = d.DB.NewIter(below(q.Prefix)); err != nil {
		return nil, err
	}
	d.opens.Lock()
	d.open[e] = struct{}{}
	d.opens.Unlock()
	return query.NaiveQueryApply(rest, query.ResultsFromIterator(q, query.Iterator{Next: e.next, Close: e.close})), nil
}

// below returns the bounds of what is below a key.
func below(prefix string) *pebble.IterOptions {
	lower := []byte(ds.NewKey(prefix).String())
	if len(lower) > 1 {
		lower = append(lower, '/')
	}
	upper := bytes.Clone(lower)
	upper[len(upper)-1]++ // from '/' to '0'
	return &pebble.IterOptions{LowerBound: lower, UpperBound: upper}
}

// entries are the results of a query.
type entries struct {
	store    *diskStore
	keysOnly bool
	sizes    bool
	reverse  bool

	mu    sync.Mutex
	it    *pebble.Iterator // nil when it is closed
	begun bool
	over  bool // there is nothing more, or an error was returned
}

func (e *entries) next() (query.Result, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return query.Result{}, false
	}
	entry, ok, err := e.step()
	if err != nil {
		e.over = true
		return query.Result{Error: fmt.Errorf("query: %w", err)}, true
	}
	e.over = !ok
	return query.Result{Entry: entry}, ok
}

func (e *entries) step() (entry query.Entry, ok bool, err error) {
	if err := e.store.enter(); err != nil {
		return entry, false, err
	}
	defer e.store.leave(&err)
	if e.it == nil {
		return entry, false, nil
	}
	switch {
	case e.begun && e.reverse:
		ok = e.it.Prev()
	case e.begun:
		ok = e.it.Next()
	case e.reverse:
		ok = e.it.Last()
	default:
		ok = e.it.First()
	}
	e.begun = true
	if !ok {
		return entry, false, e.it.Error()
	}
	entry = query.Entry{Key: string(e.it.Key()), Size: -1}
	if e.keysOnly && !e.sizes {
		return entry, true, nil
	}
	value, err := e.it.ValueAndErr()
	if err != nil {
		return entry, false, err
	}
	if e.sizes {
		entry.Size = len(value)
	}
	if !e.keysOnly {
		entry.Value = bytes.Clone(value)
	}
	return entry, true, nil
}

// close ends the results. It may be called more than once.
func (e *entries) close() (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.store
	if d.enter() != nil {
		return nil // the store's Close did it
	}
	defer d.leave(&err)
	d.opens.Lock()
	delete(d.open, e)
	d.opens.Unlock()
	if e.it == nil {
		return nil
	}
	it := e.it
	e.it = nil
	return it.Close()
}
