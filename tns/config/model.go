package config

import (
	"slices"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
)

// A Project is a compiled configuration: what the YAML files of a project say,
// checked, with defaults filled in and names resolved to ids. Its JSON is how
// registries keep it. It is immutable.
type Project struct {
	ID           taubyte.ProjectID `json:"id"`
	Name         string            `json:"name,omitempty"`
	Description  string            `json:"description,omitempty"`
	Email        string            `json:"email,omitempty"`
	Account      string            `json:"account,omitempty"`
	Plan         string            `json:"plan,omitempty"`
	Egress       *Egress           `json:"egress,omitempty"` // nil: functions may reach everything public
	Resources                      // the project's global scope
	Applications []Application     `json:"applications,omitempty"`

	object map[string]any // see Object
}

// Egress is what the functions of a project may reach over the network: nothing
// else than this. Private addresses stay out of reach whatever it says.
type Egress struct {
	// Allow has host names ("api.example.com"), all names below one
	// ("*.example.com", which does not name example.com itself) and ranges of
	// addresses ("192.0.2.0/24").
	Allow []string `json:"allow"`
}

// An Application is a scope within a project.
type Application struct {
	ID          taubyte.ApplicationID `json:"id"`
	Name        string                `json:"name"`
	Description string                `json:"description,omitempty"`
	Tags        []string              `json:"tags,omitempty"`
	Resources
}

// Resources are the resources of one scope, each list sorted by name.
type Resources struct {
	Functions []Function  `json:"functions,omitempty"`
	Websites  []Website   `json:"websites,omitempty"`
	Libraries []Library   `json:"libraries,omitempty"`
	Domains   []Domain    `json:"domains,omitempty"`
	Databases []Database  `json:"databases,omitempty"`
	Storages  []Storage   `json:"storages,omitempty"`
	Messaging []Messaging `json:"messaging,omitempty"`
	Services  []Service   `json:"services,omitempty"`
	SmartOps  []SmartOp   `json:"smartops,omitempty"`
}

// Common is what every resource has.
type Common struct {
	ID          taubyte.ResourceID   `json:"id"`
	Name        string               `json:"name"`
	Description string               `json:"description,omitempty"`
	Tags        []string             `json:"tags,omitempty"`
	SmartOps    []taubyte.ResourceID `json:"smartops,omitempty"` // attached by tags
}

// The triggers of a function.
const (
	TriggerHTTP   = "http"
	TriggerHTTPS  = "https"
	TriggerPubSub = "pubsub"
	TriggerP2P    = "p2p"
	TriggerTimer  = "timer"
)

// Function is a WebAssembly function.
type Function struct {
	Common
	Type  string `json:"type"` // a Trigger… constant
	Local *bool  `json:"local,omitempty"`
	// Method and Methods together are those that the function is called for (http and
	// https; case kept).
	Method  string               `json:"method,omitempty"`
	Methods []string             `json:"methods,omitempty"`
	Domains []taubyte.ResourceID `json:"domains,omitempty"`
	Paths   []string             `json:"paths,omitempty"`
	Channel string               `json:"channel,omitempty"` // pubsub
	Service string               `json:"service,omitempty"` // p2p protocol
	Command string               `json:"command,omitempty"` // p2p
	// Schedule is when a timer goes off: five fields of cron, "@daily" and the like,
	// or "@every <duration>" of a second or more. Timezone is where its hours are
	// counted, a name of the IANA database.
	Schedule string        `json:"schedule,omitempty"`
	Timezone string        `json:"timezone,omitempty"`
	Source   string        `json:"source"` // "." or "libraries/<id>"
	Timeout  time.Duration `json:"timeout"`
	Memory   int64         `json:"memory"` // bytes
	Call     string        `json:"call"`   // the module's export
}

// Origin is the git repository that a website or library is built from. Without
// a provider it is the project's own repository: websites/<name> or
// libraries/<name> there.
type Origin struct {
	Provider       string         `json:"provider,omitempty"`
	RepositoryID   string         `json:"repository-id,omitempty"`
	RepositoryName string         `json:"repository-name,omitempty"`
	Branch         taubyte.Branch `json:"branch,omitempty"`
}

// AllMethods are the HTTP methods that the function is called for, each once, in capitals.
func (f *Function) AllMethods() []string {
	var all []string
	for _, m := range append([]string{f.Method}, f.Methods...) {
		if m = strings.ToUpper(m); m != "" && !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all
}

// Website is a folder of files, served over HTTP.
type Website struct {
	Common
	Origin
	Domains []taubyte.ResourceID `json:"domains"`
	Paths   []string             `json:"paths"`
	// Precompress says whether encodings of its files are made when it is built. They are
	// where nothing is said.
	Precompress *bool `json:"precompress,omitempty"`
}

// Library is a module that functions import or run.
type Library struct {
	Common
	Origin
	Path string `json:"path,omitempty"`
}

// Domain is a host name that the project serves. FQDN is lower-case.
type Domain struct {
	Common
	FQDN     string `json:"fqdn"`
	CertType string `json:"cert-type"` // "auto" or "inline"
	CertFile string `json:"cert-file,omitempty"`
	KeyFile  string `json:"key-file,omitempty"`
}

// Database is a key-value store that functions open by name.
type Database struct {
	Common
	Match    string `json:"match,omitempty"`
	UseRegex bool   `json:"useRegex"`
	Local    bool   `json:"local"`
	Size     int64  `json:"size"`
	// What follows has no effect yet and is kept.
	NetworkAccess  string `json:"network-access,omitempty"`
	EncryptionType string `json:"encryption-type,omitempty"`
	EncryptionKey  string `json:"encryption-key,omitempty"`
}

// Storage is a store of objects that functions open by name.
type Storage struct {
	Common
	Type       string        `json:"type"` // "object" or "streaming"
	Match      string        `json:"match,omitempty"`
	UseRegex   bool          `json:"useRegex"`
	Public     bool          `json:"public"`
	Size       int64         `json:"size"`
	Versioning bool          `json:"versioning,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"`
}

// Messaging is a set of pub/sub channels.
type Messaging struct {
	Common
	Local     bool   `json:"local"`
	Match     string `json:"match"`
	Regex     bool   `json:"regex"`
	MQTT      bool   `json:"mqtt"`
	WebSocket bool   `json:"webSocket"`
}

// Service is a peer-to-peer protocol.
type Service struct {
	Common
	Protocol string `json:"protocol"`
}

// SmartOp is a function that guards resources.
type SmartOp struct {
	Common
	Source  string        `json:"source"`
	Timeout time.Duration `json:"timeout"`
	Memory  int64         `json:"memory"`
	Call    string        `json:"call"`
}
