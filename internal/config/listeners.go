package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Listener is one address that the broker listens on, or that it tells clients.
type Listener struct {
	Name     string // upper case, for example PLAINTEXT
	Host     string // empty: every interface
	Port     int    // 0: any free port; of an advertised listener: the port it listens on
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
}

// Address returns "host:port" for net.Listen.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// String is Kafka's form: NAME://host:port.
func (l Listener) String() string { return l.Name + "://" + l.Address() }

var listenerPattern = regexp.MustCompile(`^([^:]+)://\[?([0-9a-zA-Z\-%._:]*)\]?:(-?\d+)$`)

// parseListener reads NAME://host:port.
func parseListener(text string) (Listener, error) {
	m := listenerPattern.FindStringSubmatch(text)
	if m == nil {
		return Listener{}, fmt.Errorf("%q is not NAME://host:port", text)
	}
	port, err := strconv.Atoi(m[3])
	if err != nil || port < 0 || port > 65535 {
		return Listener{}, fmt.Errorf("port %s of %s is not between 0 and 65535", m[3], text)
	}
	return Listener{Name: strings.ToUpper(m[1]), Host: m[2], Port: port}, nil
}

var securityProtocols = []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}

// parseProtocolMap reads NAME:PROTOCOL,NAME:PROTOCOL.
func parseProtocolMap(text string) (map[string]string, error) {
	protocols := map[string]string{}
	for _, part := range splitList(text) {
		name, protocol, ok := cutLast(part, ":")
		if !ok {
			return nil, fmt.Errorf("%q is not NAME:PROTOCOL", part)
		}
		name, protocol = strings.ToUpper(trim(name)), strings.ToUpper(trim(protocol))
		if !slices.Contains(securityProtocols, protocol) {
			return nil, fmt.Errorf("security protocol %s of listener %s is none of %s", protocol, name, strings.Join(securityProtocols, ", "))
		}
		if _, ok := protocols[name]; ok {
			return nil, fmt.Errorf("listener %s is there twice", name)
		}
		protocols[name] = protocol
	}
	return protocols, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// listenerSettings are the parsed settings of listeners, problems reported to p.
type listenerSettings struct {
	listeners, advertised []Listener
	notes                 []string
}

// resolveListeners reads everything about listeners. Those of controllers are left out: there are none here.
func resolveListeners(v *values, p *Problems) listenerSettings {
	var s listenerSettings
	mapText, _ := v.effective("listener.security.protocol.map")
	protocols, err := parseProtocolMap(mapText)
	if err != nil {
		p.add(v, "listener.security.protocol.map", err.Error())
		protocols = map[string]string{}
	}
	controller := v.words("controller.listener.names")
	for i := range controller {
		controller[i] = strings.ToUpper(controller[i])
	}
	for _, text := range v.words("listeners") {
		l, err := parseListener(text)
		if err != nil {
			p.add(v, "listeners", err.Error())
			continue
		}
		if slices.Contains(controller, l.Name) {
			s.notes = append(s.notes, fmt.Sprintf("listener %s is not opened: it is for controllers, and metadata needs no listener here", l))
			continue
		}
		if l.Protocol = protocols[l.Name]; l.Protocol == "" {
			if !slices.Contains(securityProtocols, l.Name) {
				p.add(v, "listeners", fmt.Sprintf("listener %s has no security protocol in listener.security.protocol.map", l.Name))
				continue
			}
			l.Protocol = l.Name
		}
		if l.Protocol != "PLAINTEXT" {
			p.add(v, "listeners", fmt.Sprintf("listener %s wants %s, which this version does not have: only PLAINTEXT can be opened", l.Name, l.Protocol))
			continue
		}
		for _, other := range s.listeners {
			switch {
			case other.Name == l.Name:
				p.add(v, "listeners", fmt.Sprintf("Each listener must have a different name: %s is there twice", l.Name))
			case other.Port == l.Port && l.Port != 0 && sameHost(other.Host, l.Host):
				p.add(v, "listeners", fmt.Sprintf("Each listener must have a different port: %s and %s", other, l))
			}
		}
		s.listeners = append(s.listeners, l)
	}
	if len(s.listeners) == 0 && len(v.words("listeners")) > 0 && !p.has("listeners") {
		p.add(v, "listeners", "no listener is left for clients")
	}
	s.advertised = resolveAdvertised(v, p, s.listeners, controller)
	return s
}

// resolveAdvertised reads advertised.listeners.
func resolveAdvertised(v *values, p *Problems, listeners []Listener, controller []string) []Listener {
	var advertised []Listener
	for _, text := range v.words("advertised.listeners") {
		a, err := parseListener(text)
		switch {
		case err != nil:
			p.add(v, "advertised.listeners", err.Error())
			continue
		case slices.Contains(controller, a.Name):
			continue
		}
		i := slices.IndexFunc(listeners, func(l Listener) bool { return l.Name == a.Name })
		switch {
		case i < 0:
			if !p.has("listeners") {
				p.add(v, "advertised.listeners", fmt.Sprintf("listener %s is not one of listeners", a.Name))
			}
			continue
		case a.Host == "":
			p.add(v, "advertised.listeners", fmt.Sprintf("%s has no host: clients need one", text))
			continue
		case net.ParseIP(a.Host) != nil && net.ParseIP(a.Host).IsUnspecified():
			p.add(v, "advertised.listeners", fmt.Sprintf("advertised.listeners cannot use the nonroutable meta-address %s. Use a routable IP address, or leave %s out.", a.Host, a.Name))
			continue
		case slices.ContainsFunc(advertised, func(other Listener) bool { return other.Name == a.Name }):
			p.add(v, "advertised.listeners", fmt.Sprintf("listener %s is there twice", a.Name))
			continue
		}
		a.Protocol = listeners[i].Protocol
		advertised = append(advertised, a)
	}
	return advertised
}

// sameHost reports whether two listeners on one port would collide.
func sameHost(a, b string) bool {
	every := func(h string) bool { ip := net.ParseIP(h); return h == "" || ip != nil && ip.IsUnspecified() }
	return a == b || every(a) || every(b)
}
