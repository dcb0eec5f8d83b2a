"""The settings on the page System: where alerts go, and what is configured elsewhere."""

from datetime import UTC, datetime

import streamlit as st

from data.masking import masked
from monitor import alerts
from monitor.alerts import AlertError, AlertSettings
from monitor.ui import widgets
from monitor.ui.text import _
from serving.inference_log import reader


def show() -> None:
    """Render the settings."""
    left, right = st.columns([3, 2], gap="medium")
    with left.container(border=True):
        _show_alerts()
    with right.container(border=True):
        st.markdown(f"**{_('Configured elsewhere')}**")
        configured = {
            _("Monitored server"): (widgets.ENDPOINT_VARIABLE, widgets.configured_endpoint()),
            _("Inference log"): ("KOBE_INFERENCE_LOG", reader.log_url()),
        }
        widgets.text_table(
            [
                {_("setting"): f"{setting}\n{variable}", _("value"): masked(value)}
                for setting, (variable, value) in configured.items()
            ],
            "elsewhere",
            (45, 55),
        )
        st.caption(_("Prometheus reads the server's /metrics. Dashboard and alert rules are in deploy/monitoring."))


def _show_alerts() -> None:
    st.markdown(f"**{_('Alerts')}**")
    st.caption(
        _(
            "A change of the status goes to a webhook and to an e-mail address. The settings are in "
            "alerts.json of this checkout."
        )
    )
    try:
        kept = alerts.read_settings()
    except AlertError as error:
        st.error(str(error), icon=":material/error:")
        kept = AlertSettings()
    with st.form("alerts", border=False):
        webhook = st.text_input(_("Webhook URL"), kept.webhook, placeholder="https://chat.example.org/hooks/…")
        email = st.text_input(_("E-mail addresses"), kept.email, placeholder="ana@example.org, ben@example.org")
        columns = st.columns([3, 1, 2])
        host = columns[0].text_input(_("Mail server"), kept.smtp_host)
        port = columns[1].number_input(_("Port"), 1, 65_535, kept.smtp_port)
        statuses = ["warning", "retraining recommended"]
        least = columns[2].selectbox(_("From status"), statuses, index=statuses.index(kept.from_status), format_func=_)
        link = st.text_input(_("Link to this monitor"), kept.link, placeholder="https://monitor.example.org")
        with st.container(horizontal=True):
            saved = st.form_submit_button(_("Save"), type="primary")
            tried = st.form_submit_button(_("Save and send a test alert"))
    if saved or tried:
        _save(
            kept,
            {
                "webhook": webhook,
                "email": email,
                "smtp_host": host,
                "smtp_port": port,
                "from_status": least,
                "link": link,
            },
            send=tried,
        )


def _save(kept: AlertSettings, changed: dict[str, object], *, send: bool) -> None:
    try:
        settings = alerts.write_settings({**kept.model_dump(), **changed})
    except AlertError as error:
        st.error(str(error), icon=":material/error:")
        return
    st.success(_("Saved."), icon=":material/check_circle:")
    if not send:
        return
    if not settings.is_on:
        st.info(_("No webhook and no e-mail address is set, so no alert is sent."), icon=":material/info:")
        return
    now = datetime.now(UTC)
    test = {
        "text": "kobe_shot: test alert", "status": "test", "before": "", "cause": "This is a test alert.",
        "version": "-", "source": "-", "time": now.isoformat(timespec="seconds"), "link": settings.link,
    }  # fmt: skip
    for delivery in alerts.deliver(test, settings):
        if delivery.problem:
            st.error(f"{delivery.channel}: {delivery.problem}", icon=":material/error:")
        else:
            st.success(f"{delivery.channel}: {_('delivered')}", icon=":material/check_circle:")
