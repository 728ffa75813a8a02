//! What the command line and the environment say; it wins over the file.

/// Settings from the command line or the environment; they win over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Overrides {
    /// Folder of the store and the identity.
    #[arg(long, env = "DRIFTGLASS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<String>,
    /// UDP address that agents connect to.
    #[arg(long, env = "DRIFTGLASS_QUIC_LISTEN", value_name = "ADDRESS:PORT")]
    pub quic_listen: Option<String>,
    /// Most connections of agents at once.
    #[arg(long, env = "DRIFTGLASS_QUIC_MAX_CONNECTIONS", value_name = "N")]
    pub quic_max_connections: Option<String>,
    /// Most connections of agents at once from one network (an IPv4 /24, an IPv6 /56).
    #[arg(long, env = "DRIFTGLASS_QUIC_MAX_CONNECTIONS_PER_NETWORK", value_name = "N")]
    pub quic_max_connections_per_network: Option<String>,
    /// Whether several packets are handed to the system at once: true or false.
    #[arg(long, env = "DRIFTGLASS_QUIC_SEGMENTATION_OFFLOAD", value_name = "BOOL")]
    pub quic_segmentation_offload: Option<String>,
    /// TCP address for agents whose site blocks UDP, or off.
    #[arg(long, env = "DRIFTGLASS_TCP_LISTEN", value_name = "ADDRESS:PORT")]
    pub tcp_listen: Option<String>,
    /// Records a second that one device may send.
    #[arg(long, env = "DRIFTGLASS_QUOTA_RECORDS_PER_SECOND", value_name = "N")]
    pub quota_records_per_second: Option<String>,
    /// Bytes a second that one device may send.
    #[arg(long, env = "DRIFTGLASS_QUOTA_BYTES_PER_SECOND", value_name = "N")]
    pub quota_bytes_per_second: Option<String>,
    /// TCP address of dashboard, REST and metrics; beyond loopback only with TLS and tokens.
    #[arg(long, env = "DRIFTGLASS_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,
    /// TLS for HTTP: off, own or files.
    #[arg(long, env = "DRIFTGLASS_HTTP_TLS", value_name = "KIND")]
    pub http_tls: Option<String>,
    /// The certificate for HTTP, a PEM file.
    #[arg(long, env = "DRIFTGLASS_HTTP_CERTIFICATE", value_name = "FILE")]
    pub http_certificate: Option<String>,
    /// Its key, a PEM file.
    #[arg(long, env = "DRIFTGLASS_HTTP_KEY", value_name = "FILE")]
    pub http_key: Option<String>,
    /// Names and addresses that the authority's certificate for HTTP is to bear.
    #[arg(long, env = "DRIFTGLASS_HTTP_NAMES", value_name = "NAMES")]
    pub http_names: Option<String>,
    /// Who may ask over HTTP: none (everybody on this machine) or tokens.
    #[arg(long, env = "DRIFTGLASS_HTTP_AUTH", value_name = "KIND")]
    pub http_auth: Option<String>,
    /// SPIFFE trust domain of device certificates.
    #[arg(long, env = "DRIFTGLASS_IDENTITY_TRUST_DOMAIN", value_name = "DOMAIN")]
    pub identity_trust_domain: Option<String>,
    /// How long a device's certificate is valid.
    #[arg(long, env = "DRIFTGLASS_IDENTITY_CERTIFICATE_LIFETIME", value_name = "DURATION")]
    pub identity_certificate_lifetime: Option<String>,
    /// Target of the false discovery rate.
    #[arg(long, env = "DRIFTGLASS_ALERTING_Q", value_name = "Q")]
    pub alerting_q: Option<String>,
    /// Under which dependence between cameras it holds: positive or arbitrary.
    #[arg(long, env = "DRIFTGLASS_ALERTING_DEPENDENCE", value_name = "KIND")]
    pub alerting_dependence: Option<String>,
    /// False alerts allowed per site and month, instead of the target; or off.
    #[arg(long, env = "DRIFTGLASS_ALERTING_FALSE_ALERTS_PER_SITE_MONTH", value_name = "N")]
    pub alerting_false_alerts_per_site_month: Option<String>,
    /// The stretch of time the target holds for.
    #[arg(long, env = "DRIFTGLASS_ALERTING_EPOCH", value_name = "DURATION")]
    pub alerting_epoch: Option<String>,
    /// How long windows are kept.
    #[arg(long, env = "DRIFTGLASS_STORE_RETENTION", value_name = "DURATION")]
    pub store_retention: Option<String>,
    /// How much of a camera's time its first baseline is learnt from.
    #[arg(long, env = "DRIFTGLASS_BASELINE_LEARNING", value_name = "DURATION")]
    pub baseline_learning: Option<String>,
    /// Most cameras with metrics of their own.
    #[arg(long, env = "DRIFTGLASS_METRICS_MAX_CAMERAS", value_name = "N")]
    pub metrics_max_cameras: Option<String>,
}

impl Overrides {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        match key {
            "data_dir" => self.data_dir.as_deref(),
            "quic.listen" => self.quic_listen.as_deref(),
            "quic.max_connections" => self.quic_max_connections.as_deref(),
            "quic.max_connections_per_network" => self.quic_max_connections_per_network.as_deref(),
            "quic.segmentation_offload" => self.quic_segmentation_offload.as_deref(),
            "tcp.listen" => self.tcp_listen.as_deref(),
            "quota.records_per_second" => self.quota_records_per_second.as_deref(),
            "quota.bytes_per_second" => self.quota_bytes_per_second.as_deref(),
            "http.listen" => self.http_listen.as_deref(),
            "http.tls" => self.http_tls.as_deref(),
            "http.certificate" => self.http_certificate.as_deref(),
            "http.key" => self.http_key.as_deref(),
            "http.names" => self.http_names.as_deref(),
            "http.auth" => self.http_auth.as_deref(),
            "identity.trust_domain" => self.identity_trust_domain.as_deref(),
            "identity.certificate_lifetime" => self.identity_certificate_lifetime.as_deref(),
            "alerting.q" => self.alerting_q.as_deref(),
            "alerting.dependence" => self.alerting_dependence.as_deref(),
            "alerting.false_alerts_per_site_month" => self.alerting_false_alerts_per_site_month.as_deref(),
            "alerting.epoch" => self.alerting_epoch.as_deref(),
            "store.retention" => self.store_retention.as_deref(),
            "baseline.learning" => self.baseline_learning.as_deref(),
            "metrics.max_cameras" => self.metrics_max_cameras.as_deref(),
            _ => None,
        }
    }
}
