/* SPDX-License-Identifier: MIT */
/* TLS on a wire, by GnuTLS: both sides show a certificate of one authority. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/late.h"
#include "base/wire_internal.h"

/* What of the library is used. */
#define CALLS                                                                            \
    CALL(bye)                                                                            \
    CALL(certificate_allocate_credentials)                                               \
    CALL(certificate_free_credentials)                                                   \
    CALL(certificate_server_set_request)                                                 \
    CALL(certificate_set_x509_key_file)                                                  \
    CALL(certificate_set_x509_trust_file)                                                \
    CALL(credentials_set)                                                                \
    CALL(deinit)                                                                         \
    CALL(error_is_fatal)                                                                 \
    CALL(handshake)                                                                      \
    CALL(handshake_set_timeout)                                                          \
    CALL(init)                                                                           \
    CALL(record_recv)                                                                    \
    CALL(record_send)                                                                    \
    CALL(session_set_verify_cert)                                                        \
    CALL(set_default_priority)                                                           \
    CALL(strerror)                                                                       \
    CALL(transport_set_int2)

static struct {
#define CALL(name) __typeof__(gnutls_##name) *name;
    CALLS
#undef CALL
} gnutls;

int wire_tls_prepare(struct err *e) {
    static const struct late_call calls[] = {
#define CALL(name) {"gnutls_" #name, &gnutls.name},
        CALLS
#undef CALL
    };
    return late_open(GNUTLS_SONAME, calls, sizeof(calls) / sizeof(calls[0]), e);
}

struct wire_tls {
    gnutls_certificate_credentials_t credentials;
    bool server;
};

static int tls_error(struct err *e, const char *what, int code) {
    return err_set(e, -EPROTO, "TLS: %s: %s", what, gnutls.strerror(code));
}

/* Return: 0, or -EINVAL with a line that names the file. */
static int load(struct wire_tls *t, const char *dir, struct err *e) {
    char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX];
    const char *who = t->server ? "server" : "client";
    if (snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir) >= (int)sizeof(ca) ||
        snprintf(cert, sizeof(cert), "%s/%s-cert.pem", dir, who) >= (int)sizeof(cert) ||
        snprintf(key, sizeof(key), "%s/%s-key.pem", dir, who) >= (int)sizeof(key))
        return err_set(e, -EINVAL, "TLS: the path is too long");
    int n =
        gnutls.certificate_set_x509_trust_file(t->credentials, ca, GNUTLS_X509_FMT_PEM);
    if (n <= 0)
        return err_set(e, -EINVAL, "TLS: %s: %s", ca,
                       n ? gnutls.strerror(n) : "no certificate");
    n = gnutls.certificate_set_x509_key_file(t->credentials, cert, key,
                                             GNUTLS_X509_FMT_PEM);
    return n < 0 ? err_set(e, -EINVAL, "TLS: %s and %s-key.pem: %s", cert, who,
                           gnutls.strerror(n))
                 : 0;
}

int wire_tls_open(const char *dir, bool server, struct wire_tls **out, struct err *e) {
    int rc = wire_tls_prepare(e);
    if (rc)
        return rc;
    struct wire_tls *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(e, -ENOMEM, "out of memory");
    t->server = server;
    rc = gnutls.certificate_allocate_credentials(&t->credentials)
             ? err_set(e, -ENOMEM, "out of memory")
             : load(t, dir, e);
    if (rc)
        wire_tls_close(t);
    else
        *out = t;
    return rc;
}

void wire_tls_close(struct wire_tls *t) {
    if (t && t->credentials)
        gnutls.certificate_free_credentials(t->credentials);
    free(t);
}

/* Return: bytes, or -errno. */
static ssize_t result(ssize_t n) {
    if (n >= 0)
        return n;
    switch (n) {
    case GNUTLS_E_AGAIN:
    case GNUTLS_E_INTERRUPTED:
        return -EAGAIN;
    case GNUTLS_E_PREMATURE_TERMINATION:
    case GNUTLS_E_PUSH_ERROR:
    case GNUTLS_E_PULL_ERROR:
        return -EPIPE;
    default:
        return -EPROTO;
    }
}

static int handshake(struct wire *w, gnutls_session_t s, struct err *e) {
    int n;
    while ((n = gnutls.handshake(s)) < 0) {
        int rc =
            n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED || !gnutls.error_is_fatal(n)
                ? wire_may_wait(w->group)
                : -EPROTO;
        if (rc == -EPROTO && n == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
            return err_set(e, rc,
                           "TLS: the peer's certificate is not of the authority in "
                           "ca-cert.pem, or not of its host");
        if (rc)
            return rc == -EPROTO ? tls_error(e, "the peer", n)
                                 : err_set(e, rc, "TLS: %s", wire_words(rc));
    }
    return 0;
}

int wire_tls_begin(struct wire *w, struct wire_tls *t, const char *host, struct err *e) {
    gnutls_session_t s;
    int n = gnutls.init(&s, t->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    if (n < 0)
        return tls_error(e, "a session", n);
    n = gnutls.set_default_priority(s);
    if (n >= 0)
        n = gnutls.credentials_set(s, GNUTLS_CRD_CERTIFICATE, t->credentials);
    if (t->server)
        gnutls.certificate_server_set_request(s, GNUTLS_CERT_REQUIRE);
    gnutls.session_set_verify_cert(s, host, 0);
    gnutls.transport_set_int2(s, w->fd, w->fd);
    gnutls.handshake_set_timeout(s, GNUTLS_INDEFINITE_TIMEOUT); /* wire_may_wait knows */
    int rc = n < 0 ? tls_error(e, "a session", n) : handshake(w, s, e);
    if (rc)
        gnutls.deinit(s);
    else
        w->session = s;
    return rc;
}

void wire_tls_end(struct wire *w) {
    if (!w->session)
        return;
    gnutls.bye(w->session, GNUTLS_SHUT_WR); /* its failure is nobody's concern any more */
    gnutls.deinit(w->session);
    w->session = NULL;
}

ssize_t wire_tls_recv(struct wire *w, void *to, size_t size) {
    return result(gnutls.record_recv(w->session, to, size));
}

ssize_t wire_tls_send(struct wire *w, const void *from, size_t size) {
    return result(gnutls.record_send(w->session, from, size));
}
