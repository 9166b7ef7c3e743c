//! How many alerts are bearable, as commands take it: by week or by month.

use kilter_core::AlertBudget;

#[derive(Debug, clap::Args)]
pub struct BudgetArgs {
    /// Bearable alerts per thing and week [default: 3]
    #[arg(long, value_name = "N")]
    alerts_per_week: Option<f64>,
    /// The same per month, of 30 days
    #[arg(long, value_name = "N", conflicts_with = "alerts_per_week")]
    alerts_per_month: Option<f64>,
}

impl BudgetArgs {
    pub fn budget(&self) -> Option<AlertBudget> {
        let weekly = self.alerts_per_week.map(|per_asset_and_week| AlertBudget { per_asset_and_week });
        weekly.or(self.alerts_per_month.map(AlertBudget::monthly))
    }
}
