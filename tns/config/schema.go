package config

// A field is one thing that a file may say: where it stands, how it is read, and
// its key in the compiled object. It is the one description that compiling, the
// warnings about unknown keys and the JSON Schema all follow.
type field struct {
	at       string // dotted path in the file
	legacy   string // an older place that is still read
	wire     string // key in the compiled object; "" = the value is only looked at
	parse    parser
	required bool
	fallback any // the value where the key is absent; nil: none is set
	// when limits a field to some values of the resource's trigger type.
	when []string
	json map[string]any // its JSON Schema
	// inner says that the JSON Schema demands the field where the map around it stands.
	// Compile has a check of its own.
	inner bool
}

// The groups of resources, as folders and as keys of the compiled object.
const (
	groupFunctions = "functions"
	groupWebsites  = "websites"
	groupLibraries = "libraries"
	groupDomains   = "domains"
	groupDatabases = "databases"
	groupStorages  = "storages"
	groupMessaging = "messaging"
	groupServices  = "services"
	groupSmartOps  = "smartops"
)

func common(fields ...field) []field {
	return append([]field{
		{at: "id", wire: "id", parse: id, required: true, json: jsonID},
		{at: "name", parse: variable, json: jsonName}, // checked; the file's name counts
		{at: "description", wire: "description", parse: text, json: jsonText},
		{at: "tags", wire: "tags", parse: list, json: jsonList},
	}, fields...)
}

var triggers = []string{TriggerHTTP, TriggerHTTPS, TriggerPubSub, TriggerP2P, TriggerTimer}

var isHTTP = []string{TriggerHTTP, TriggerHTTPS}

func projectFields() []field {
	return []field{
		{at: "id", wire: "id", parse: id, required: true, json: jsonID},
		{at: "name", wire: "name", parse: variable, json: jsonName},
		{at: "description", wire: "description", parse: text, json: jsonText},
		{at: "tags", parse: list, json: jsonList},
		{at: "notification.email", wire: "email", parse: email, json: jsonEmail},
	}
}

func execution() []field {
	return []field{
		{at: "execution.timeout", wire: "timeout", parse: duration, required: true, json: jsonDur},
		{at: "execution.memory", wire: "memory", parse: size, required: true, json: jsonSize},
		{at: "execution.call", wire: "call", parse: some, required: true, json: jsonSome},
	}
}

// origin describes where a website or library is built from; what it demands of
// each other is checked by checkOrigin.
func origin() []field {
	fs := []field{{at: "source.branch", wire: "branch", parse: some, json: jsonSome}}
	for _, p := range providers {
		fs = append(fs,
			field{at: "source." + p + ".id", wire: "repository-id", parse: some, json: jsonSome, inner: true},
			field{at: "source." + p + ".fullname", wire: "repository-name", parse: some, json: jsonSome, inner: true})
	}
	return fs
}

// providers are the git providers that a website or library may be at.
var providers = []string{"github", "gitea"}

// groups is the schema of each group's files.
func groups() map[string][]field {
	return map[string][]field{
		groupFunctions: common(append([]field{
			{at: "trigger.type", wire: "type", parse: oneOf(triggers...), required: true, json: jsonEnum(TriggerHTTP, TriggerHTTPS, TriggerPubSub, TriggerP2P, TriggerTimer)},
			{at: "trigger.local", wire: "local", parse: boolean, json: jsonBool},
			{at: "trigger.method", wire: "method", parse: method, when: isHTTP, json: jsonMethod},
			{at: "trigger.methods", wire: "methods", parse: methodList, when: isHTTP, json: jsonMethods},
			{at: "trigger.domains", legacy: "domains", wire: "domains", parse: items, required: true, when: isHTTP, json: jsonItems},
			{at: "trigger.paths", wire: "paths", parse: templates, required: true, when: isHTTP, json: jsonTemplate},
			{at: "trigger.channel", wire: "channel", parse: some, required: true, when: []string{TriggerPubSub}, json: jsonSome},
			{at: "trigger.protocol", legacy: "trigger.service", wire: "service", parse: some, required: true, when: []string{TriggerP2P}, json: jsonSome},
			{at: "trigger.command", wire: "command", parse: some, required: true, when: []string{TriggerP2P}, json: jsonSome},
			{at: "trigger.schedule", wire: "schedule", parse: schedule, required: true, when: []string{TriggerTimer}, json: jsonSchedule},
			{at: "trigger.timezone", wire: "timezone", parse: timezone, fallback: "UTC", when: []string{TriggerTimer}, json: jsonZone},
			{at: "source", wire: "source", parse: source, required: true, json: jsonSource},
		}, execution()...)...),
		groupWebsites: common(append([]field{
			{at: "domains", wire: "domains", parse: items, required: true, json: jsonItems},
			{at: "paths", legacy: "source.paths", wire: "paths", parse: paths, required: true, json: jsonPaths},
			{at: "precompress", wire: "precompress", parse: boolean, json: jsonBool},
		}, origin()...)...),
		groupLibraries: common(append([]field{
			{at: "source.path", wire: "path", parse: some, json: jsonSome},
		}, origin()...)...),
		groupDomains: common(
			field{at: "fqdn", wire: "fqdn", parse: fqdn, required: true, json: jsonFQDN},
			field{at: "certificate.type", wire: "cert-type", parse: oneOf("auto", "inline"), fallback: "auto", json: jsonEnum("auto", "inline")},
			field{at: "certificate.cert", wire: "cert-file", parse: some, json: jsonSome},
			field{at: "certificate.key", wire: "key-file", parse: some, json: jsonSome},
		),
		groupDatabases: common(
			field{at: "match", wire: "match", parse: some, json: jsonSome},
			field{at: "regex", legacy: "useRegex", wire: "useRegex", parse: boolean, json: jsonBool},
			field{at: "access.network", wire: "network-access", parse: oneOf("all", "subnet", "host"), fallback: "all", json: jsonEnum("all", "host")},
			field{at: "storage.size", wire: "size", parse: size, required: true, json: jsonSize},
			field{at: "encryption.type", wire: "encryption-type", parse: text, json: jsonNone},
			field{at: "encryption.key", wire: "encryption-key", parse: text, json: jsonNone},
		),
		groupStorages: common(
			field{at: "match", wire: "match", parse: some, json: jsonSome},
			field{at: "regex", legacy: "useRegex", wire: "useRegex", parse: boolean, json: jsonBool},
			field{at: "access.network", wire: "network-access", parse: oneOf("all", "subnet", "host"), fallback: "all", json: jsonEnum("all", "host")},
			field{at: "object.size", wire: "object-size", parse: size, json: jsonSize, inner: true},
			field{at: "object.versioning", wire: "versioning", parse: boolean, json: jsonBool},
			field{at: "streaming.size", wire: "streaming-size", parse: size, json: jsonSize, inner: true},
			field{at: "streaming.ttl", wire: "ttl", parse: duration, json: jsonDur},
		),
		groupMessaging: common(
			field{at: "local", wire: "local", parse: boolean, json: jsonBool},
			field{at: "channel.match", wire: "match", parse: some, required: true, json: jsonSome},
			field{at: "channel.regex", wire: "regex", parse: boolean, json: jsonBool},
			field{at: "bridges.mqtt.enable", wire: "mqtt", parse: boolean, json: jsonFalse},
			field{at: "bridges.websocket.enable", wire: "webSocket", parse: boolean, json: jsonBool},
		),
		groupServices: common(field{at: "protocol", wire: "protocol", parse: protocol, required: true, json: jsonProtocol}),
		groupSmartOps: common(append([]field{
			{at: "source", wire: "source", parse: source, required: true, json: jsonSource},
		}, execution()...)...),
	}
}
