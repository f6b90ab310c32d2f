package gateway

import (
	"net/http"
	"strings"

	"github.com/taubyte/taubyte/auth"
)

// WithWebhooks has the gateway hand what providers send, to auth.WebhookPath on any host,
// to a handler: that of patrick.Service.Hooks or patrick.Client.Hooks. No site has that path
// then. The default is none.
func WithWebhooks(h http.Handler) Option { return func(o *options) { o.webhooks = h } }

// takeDelivery hands a request to the webhooks' handler, and reports whether it was one.
func (s *Service) takeDelivery(w http.ResponseWriter, r *http.Request) bool {
	if s.opts.webhooks == nil || !strings.HasPrefix(r.URL.Path, auth.WebhookPath) {
		return false
	}
	s.opts.webhooks.ServeHTTP(w, r)
	return true
}
