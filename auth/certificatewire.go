package auth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"strings"
	"time"
)

// A CertificateWatcher tells of certificates: a Service or a Client.
type CertificateWatcher interface {
	WatchCertificates(ctx context.Context) (<-chan CertificateChange, error)
	WatchInlineCertificates(ctx context.Context) (<-chan CertificateChange, error)
}

// FollowCertificates calls do with all certificates of a watch, such as
// Client.WatchCertificates, and then with what changes, until ctx ends. Where a watch ends
// it begins another, and tells of what is other by then.
func FollowCertificates(ctx context.Context, watch func(context.Context) (<-chan CertificateChange, error), do func(CertificateChange)) {
	type digest = [sha256.Size]byte
	have := map[string]digest{}
	heard := false // everything, at least once
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, 5*time.Second) {
		if changes, err := watch(ctx); err == nil {
			there := map[string]bool{} // until all was told
			for c := range changes {
				wait = 100 * time.Millisecond
				news := CertificateChange{More: c.More}
				for _, id := range c.Gone {
					if _, ok := have[id]; ok {
						delete(have, id)
						news.Gone = append(news.Gone, id)
					}
				}
				for _, cert := range c.Set {
					if there != nil {
						there[cert.ID] = true
					}
					if d := sha256.Sum256([]byte(cert.Cert + "\x00" + cert.Key + "\x00" + strings.Join(cert.Except, " "))); have[cert.ID] != d {
						have[cert.ID] = d
						news.Set = append(news.Set, cert)
					}
				}
				if there != nil && !c.More {
					for id := range have {
						if !there[id] {
							delete(have, id)
							news.Gone = append(news.Gone, id)
						}
					}
					there = nil
				}
				if len(news.Set)+len(news.Gone) > 0 || !heard && !c.More {
					do(news)
				}
				heard = heard || !c.More
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// readCertificates reads changes as they are sent, until r ends or ctx does.
func readCertificates(ctx context.Context, r io.Reader, out chan<- CertificateChange) {
	for lines := json.NewDecoder(r); ; {
		var c CertificateChange
		if lines.Decode(&c) != nil {
			return
		}
		select {
		case out <- c:
		case <-ctx.Done():
			return
		}
	}
}
