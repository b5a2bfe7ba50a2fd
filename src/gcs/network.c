/* SPDX-License-Identifier: Apache-2.0 */
#include "gcs/network.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "gcs/agent.h"
#include "gcs/card.h"
#include "gcs/module.h"
#include "gcs/namespace.h"
#include "loop/duplex.h"
#include "wire/gcs.h"

#define NETNS_DIR "/run/netns"
#define APPEAR_USEC (5 * USEC_PER_SEC)
#define POLL_USEC (10 * USEC_PER_MSEC)

/* hcsshim's guest has one table, 101, for all cards but the first. */
enum { CARDS_MAX = 64, FIRST_TABLE = 101 };

/**
 * struct adapter - a card in a network
 * @dns_servers, @dns_suffix, @dns_options: as the host said them
 */
struct adapter {
	struct list link;
	char *id;
	char *dns_servers;
	char *dns_suffix;
	char *dns_options;
};

/**
 * struct network - see network.h
 * @key:	its id in lower case
 * @path:	of the namespace
 * @users:	pods that are in it, and calls under way
 * @made:	how many cards it ever had, for the next one's name
 * @lock:	one card at a time
 * @forwards:	see network_forwards()
 */
struct network {
	struct agent *agent;
	char *key;
	char *path;
	int netns;
	unsigned users;
	unsigned made;
	struct list adapters;
	struct co_mutex lock;
	struct duplexes forwards;
};

static char *lower(const char *text)
{
	char *copy = mem_strdup(text ? text : "");

	for (char *p = copy; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

static struct network *find(struct agent *a, const char *id)
{
	_cleanup_free_ char *key = lower(id);

	return map_get(&a->networks, key);
}

static void adapter_free(struct adapter *ad)
{
	list_remove(&ad->link);
	free(ad->id);
	free(ad->dns_servers);
	free(ad->dns_suffix);
	free(ad->dns_options);
	free(ad);
}

static CO int network_new(struct agent *a, const char *id, struct network **ret, struct err *err)
{
	static unsigned number;
	_cleanup_free_ char *path = str_printf(NETNS_DIR "/n%u", ++number);
	struct network *n;
	int netns;
	int r = dir_make(NETNS_DIR, 0755);

	r = r < 0 ? err_sys(err, r, "make " NETNS_DIR) : card_namespace_new(path, &netns, err);
	if (r < 0)
		return r;
	n = NEW0(struct network);
	n->agent = a;
	n->key = lower(id);
	n->path = TAKE_PTR(path);
	n->netns = netns;
	list_init(&n->adapters);
	co_mutex_init(&n->lock);
	duplexes_init(&n->forwards, GCS_FORWARD_CONNECTIONS, NULL, NULL);
	map_set(&a->networks, n->key, n);
	*ret = n;
	return 0;
}

/* The one place where a network ends: nobody is in it, and nothing. */
static CO void network_put(struct network *n)
{
	if (--n->users > 0 || !list_empty(&n->adapters))
		return;
	map_remove(&n->agent->networks, n->key);
	duplexes_close(&n->forwards);
	namespace_free(n->path);
	fd_close(n->netns);
	free(n->key);
	free(n->path);
	free(n);
}

/* ---- cards ---- */

static CO int await_card(const uint8_t mac[6], char ret_name[IFNAMSIZ], struct err *err)
{
	CO_LIMIT(APPEAR_USEC);

	while (card_find("/sys/class/net", mac, ret_name) < 0) {
		int r = co_sleep(POLL_USEC);

		if (r == -ETIMEDOUT)
			return err_set(err, -ERR_NOT_FOUND, "the VM has no such card");
		if (r < 0)
			return err_sys(err, r, "wait for the card");
	}
	return 0;
}

static CO int take_card(struct network *n, const struct gcs_network_adapter *s, struct err *err)
{
	static const char *const drivers[] = { "virtio_net", NULL };
	_cleanup_free_ char *name = str_printf("eth%u", n->made);
	struct card_place place = { .netns = n->netns, .name = name };
	char link[IFNAMSIZ];
	uint8_t mac[6];
	int r;

	if (s->policy_routing && n->made > 0)
		place.table = FIRST_TABLE + (n->made - 1) % CARDS_MAX;
	if (card_mac_parse(s->mac, mac) < 0)
		return err_set(err, -ERR_INVALID, "\"%s\" is no MAC address", s->mac ? s->mac : "");
	r = modules_need(n->agent->modules, drivers, err);
	if (r >= 0)
		r = await_card(mac, link, err);
	if (r < 0)
		return r;
	place.link = link;
	return card_put(&place, s, err);
}

static CO int add(struct network *n, const struct gcs_network_adapter *s, struct err *err)
{
	struct adapter *ad;
	size_t cards = 0;
	int r;

	CO_LOCK(&n->lock);
	LIST_FOR_EACH(it, &n->adapters) {
		cards++;
		if (strcasecmp(LIST_ENTRY(it, struct adapter, link)->id, s->id) == 0)
			return err_set(err, -ERR_EXISTS,
				       "adapter with id: '%s' already present in namespace", s->id);
	}
	if (cards >= CARDS_MAX)
		return err_set(err, -ERR_EXHAUSTED, "the network has %d cards already", CARDS_MAX);
	r = take_card(n, s, err);
	if (r < 0)
		return r;
	n->made++;
	ad = NEW0(struct adapter);
	ad->id = mem_strdup(s->id);
	ad->dns_servers = mem_strdup(s->dns_servers);
	ad->dns_suffix = mem_strdup(s->dns_suffix);
	ad->dns_options = mem_strdup(s->dns_options);
	list_append(&n->adapters, &ad->link);
	return 0;
}

CO int network_add(struct agent *a, const struct gcs_network_adapter *settings, struct err *err)
{
	struct network *n = find(a, settings->namespace_id);
	int r = 0;

	if (str_empty(settings->id))
		return err_set(err, -ERR_INVALID, "the adapter has no ID");
	if (!n)
		r = network_new(a, settings->namespace_id, &n, err);
	if (r < 0)
		return r;
	n->users++;
	r = add(n, settings, err);
	network_put(n);
	return r < 0 ? err_wrap(err, r, "network adapter %s", settings->id) : 0;
}

CO int network_remove(struct agent *a, const struct gcs_network_adapter *settings, struct err *err)
{
	struct network *n = find(a, settings->namespace_id);

	if (!n || str_empty(settings->id))
		return 0;
	n->users++;
	LIST_FOR_EACH_SAFE(it, &n->adapters) {
		struct adapter *ad = LIST_ENTRY(it, struct adapter, link);

		if (strcasecmp(ad->id, settings->id) == 0)
			adapter_free(ad);
	}
	network_put(n);
	return 0;
}

/* ---- pods ---- */

CO int network_join(struct agent *a, const char *id, struct network **ret, struct err *err)
{
	struct network *n = find(a, id);
	int r = n ? 0 : network_new(a, id, &n, err);

	if (r < 0)
		return r;
	n->users++;
	*ret = n;
	return 0;
}

int network_find(struct agent *a, const char *id, struct network **ret, struct err *err)
{
	struct network *n = find(a, id);

	if (!n)
		return err_set(err, -ERR_NOT_FOUND, "there is no network '%s'", id ? id : "");
	n->users++;
	*ret = n;
	return 0;
}

int network_netns(const struct network *n)
{
	return n->netns;
}

struct duplexes *network_forwards(struct network *n)
{
	return &n->forwards;
}

CO void network_leave(struct network *n)
{
	if (n)
		network_put(n);
}

const char *network_path(const struct network *n)
{
	return n->path;
}

bool network_has_cards(const struct network *n)
{
	return !list_empty(&n->adapters);
}

/* ---- names ---- */

/* Adds the words of a comma separated list that are not there yet. */
static void add_words(char ***list, const char *text)
{
	_cleanup_free_ char *all = lower(text);
	_cleanup_strv_ char **words = strv_split(all, ", \t\n");

	for (char **w = words; w && *w; w++)
		if (!str_empty(*w) && !strv_has(*list, *w))
			strv_add(list, *w);
}

static void add_line(struct buf *text, const char *word, char **list)
{
	_cleanup_free_ char *line = list ? strv_join(list, " ") : NULL;

	if (line)
		buf_addf(text, "%s %s\n", word, line);
}

char *network_resolv(const struct network *n)
{
	_cleanup_strv_ char **servers = NULL, **search = NULL, **options = NULL;
	_cleanup_buf_ struct buf text = { 0 };

	LIST_FOR_EACH(it, &n->adapters) {
		const struct adapter *ad = LIST_ENTRY(it, struct adapter, link);

		add_words(&servers, ad->dns_servers);
		add_words(&search, ad->dns_suffix);
		add_words(&options, ad->dns_options);
	}
	add_line(&text, "search", search);
	for (char **s = servers; s && *s; s++)
		buf_addf(&text, "nameserver %s\n", *s);
	add_line(&text, "options", options);
	return text.len ? mem_strndup((const char *)text.data, text.len) : mem_strdup("");
}
